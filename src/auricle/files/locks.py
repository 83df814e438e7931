"""Locks between processes: one writer at a time of a file of the cache, or of a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auricle.errors import AuricleError

SUFFIX = ".lock"

MODE = 0o666
"""Permissions of a lock's file, so that users who share a folder wait for each other."""


def lock_path(path: Path) -> Path:
    """The empty file whose lock protects `path`: inside a folder, beside a file."""
    return path / SUFFIX if path.is_dir() else path.with_name(f".{path.name}{SUFFIX}")


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

    lock = filelock.FileLock(lock_path(path), timeout=timeout_seconds, mode=MODE)
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
