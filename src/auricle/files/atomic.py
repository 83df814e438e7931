"""Atomic writes of files and folders: whole, or not there at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from auricle.errors import OutputError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: no reader ever sees a part of it.

    `write` is given a temporary path in the same folder. The temporary file is flushed to disk and
    replaces `path` in one step. Missing parent folders are made.

    Raises:
        OutputError: The file cannot be written; nothing half-written is left.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", dir=path.parent)
        temporary = Path(name)
        os.close(handle)
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes files private; a result has the permissions of any new file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}; choose a folder that you may write to and "
            "that has space left"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_whole_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder of files atomically: no reader ever sees a part of it.

    `write` is given a temporary folder beside it. Its files are flushed to disk, and the folder is
    renamed to `path` in one step.

    Raises:
        OutputError: `path` is there and not an empty folder, or cannot be written; nothing
            half-written is left.
    """
    path = path.absolute()
    temporary: Path | None = None
    try:
        refuse_used_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:80]}.", dir=path.parent))
        write(temporary)
        for file in temporary.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
            file.chmod(0o666 & ~_umask())
        temporary.chmod(0o777 & ~_umask())
        if path.is_dir():  # not every system lets a folder take the place of an empty one
            path.rmdir()
        temporary.rename(path)
        temporary = None
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}; choose a folder that you may write to and "
            "that has space left"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_used_folder(path: Path) -> None:
    """Raise OutputError where `path` is there and is not an empty folder."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise OutputError(
            f"cannot write the folder {path}: it is there and not an empty folder; choose "
            "another, or remove it first"
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
