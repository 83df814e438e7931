"""Locks between processes: of those that want to write one file, one does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auricle.errors import DownloadError
from auricle.hub.cache import CACHE_VARIABLE

SUFFIX = ".lock"

MODE = 0o666
"""Whoever may write to a shared folder may also wait for others who do; the file stays empty."""


@contextmanager
def locked(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock of the file at `path`, whose folder exists.

    The lock's own file stays afterwards: to remove it would let two processes hold it at once.

    Raises:
        DownloadError: Another process holds it all the time, or the file system has no locks.
        OSError: The lock's file cannot be written.
    """
    import filelock

    lock_path = path.with_name(f".{path.name}{SUFFIX}")
    lock = filelock.FileLock(lock_path, timeout=timeout_seconds, mode=MODE)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise DownloadError(
            f"another process has held {lock_path} for {timeout_seconds:g} s; end it, or try again"
        ) from error
    except NotImplementedError as error:
        raise DownloadError(
            f"files cannot be locked in {path.parent}; set {CACHE_VARIABLE} to a folder on a "
            "local disk"
        ) from error
    try:
        yield
    finally:
        lock.release()
