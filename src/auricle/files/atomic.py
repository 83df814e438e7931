"""Integrity of files: writes that are whole or not there, by one process at a time, and digests.

Digests are sha256, also those pinned beside downloaded files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from auricle.errors import AuricleError, ChecksumError, OutputError

LOCK_SUFFIX = ".lock"

LOCK_MODE = 0o666
"""Permissions of a lock's file, so that users who share a folder wait for each other."""


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


def lock_path(path: Path) -> Path:
    """The empty file whose lock protects `path`: inside a folder, beside a file."""
    return path / LOCK_SUFFIX if path.is_dir() else path.with_name(f".{path.name}{LOCK_SUFFIX}")


@contextmanager
def locked(
    path: Path, timeout_seconds: float, held: AuricleError, elsewhere: str = "choose a folder"
) -> Iterator[None]:
    """Hold the lock of a file, or of a folder and all that is in it.

    The lock ends with the process, however that ends. The lock's own file stays: removing it would
    let two processes hold the lock at once.

    Args:
        path: A folder that exists, or a file, which need not exist, in a folder that does.
        timeout_seconds: Time to wait for another process; 0 to give up at once.
        held: Raised where another process holds the lock all that time.
        elsewhere: Advice, to be followed by "on a local disk", where files cannot be locked.

    Raises:
        AuricleError: `held`, or an error of its type where the file system has no locks.
        OSError: The lock's file cannot be written.
    """
    import filelock

    lock = filelock.FileLock(lock_path(path), timeout=timeout_seconds, mode=LOCK_MODE)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise held from error
    except NotImplementedError as error:
        raise type(held)(
            f"files cannot be locked in {lock_path(path).parent}; {elsewhere} on a local disk"
        ) from error
    try:
        yield
    finally:
        lock.release()


SHA256_DIGITS = 64
"""Hex digits of a whole sha256."""

READ_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def checked_digits(digest: str | None, min_digits: int = SHA256_DIGITS) -> str | None:
    """Check a given sha256, or the beginning of one; returns it in lower case, None for None.

    Raises:
        ChecksumError: It is not hex, or has fewer than `min_digits` or more than 64 digits.
    """
    if digest is None:
        return None
    if not re.fullmatch(rf"[0-9a-fA-F]{{{min_digits},{SHA256_DIGITS}}}", digest):
        raise ChecksumError(f"a sha256 has {SHA256_DIGITS} hex digits, but {digest!r} was given")
    return digest.lower()


def pin(path: Path, digest: str) -> None:
    """Pin a file's digest: write it beside the file, in the format of `sha256sum`."""
    _note(path).write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def unpin(path: Path) -> None:
    """Remove the pinned digest of a file."""
    _note(path).unlink(missing_ok=True)


def pinned_sha256(path: Path) -> str | None:
    """Read the pinned digest of a file; None where there is none."""
    try:
        line = _note(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    match = re.match(rf"[0-9a-f]{{{SHA256_DIGITS}}}\b", line)
    return match[0] if match else None


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
