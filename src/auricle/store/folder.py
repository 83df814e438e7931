"""Folder of a store, local or of fsspec, in which a file is whole or not there at all."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from auricle.errors import OutputError
from auricle.files.atomic import lock_path, locked, write_whole
from auricle.optional import missing_extra, optional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READ_BYTES = 1 << 20

MIN_MAPPED_BYTES = 1 << 20
"""Smaller files are better read: a map of its own costs more, and systems count maps."""


@dataclasses.dataclass(frozen=True)
class FileDigest:
    """Size of a file in bytes, and its sha256 in hex: tells a whole file from a changed one."""

    size: int
    sha256: str


class Folder(abc.ABC):
    """Location of a store. Files go by their names below it, with "/" between folders.

    Instances can be pickled: another process, or another machine that sees the same place, writes
    to the same store.
    """

    def __init__(self, location: str) -> None:
        self.location = location

    @abc.abstractmethod
    def write_whole(self, name: str, write: Callable[[Path], None]) -> FileDigest:
        """Write a file that appears whole or not at all, and say its size and digest.

        `write` is given a temporary path on this machine.

        Raises:
            OutputError: The file cannot be written; nothing half-written is left.
        """

    @abc.abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A file to read from; FileNotFoundError where there is none."""

    @abc.abstractmethod
    def sizes(self, below: str = "") -> dict[str, int]:
        """Name -> size in bytes of all files at any depth of the folder `below`, sorted by name.

        Temporary files, whose names begin with a dot, are left out.
        """

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file where there is one."""

    @abc.abstractmethod
    def remove_debris(self) -> None:
        """Remove temporary files that killed processes left, and folders that hold nothing.

        No process may be writing meanwhile.
        """

    @abc.abstractmethod
    def where(self, name: str) -> str:
        """A file's absolute path or address."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep other runs on this machine out of the folder, where it is of this machine.

        Raises:
            OutputError: Another run is in it, it may not be written to, or it cannot be locked.
        """
        return nullcontext()

    def map(self, name: str) -> NDArray[np.uint8] | None:
        """A file's bytes (N,), mapped into memory; None where it is better read, or must be.

        The map is private: what is written to it does not reach the file.
        """
        return None

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        """`num_bytes` bytes from `start` on; fewer where the file ends before."""
        with self.open(name) as file:
            file.seek(start)
            return file.read(num_bytes)

    def digest(self, name: str) -> FileDigest:
        """Size and digest of a file as it is now."""
        with self.open(name) as file:
            return _digest(file)


class LocalFolder(Folder):
    """A folder of this machine's file system."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path.absolute()))
        self.path = path.absolute()

    def write_whole(self, name: str, write: Callable[[Path], None]) -> FileDigest:
        digests: list[FileDigest] = []

        def write_and_digest(temporary: Path) -> None:
            write(temporary)
            with temporary.open("rb") as file:
                digests.append(_digest(file))

        write_whole(self.path / _checked(name), write_and_digest)
        return digests[0]

    def open(self, name: str) -> BinaryIO:
        return (self.path / _checked(name)).open("rb")

    def sizes(self, below: str = "") -> dict[str, int]:
        root = self.path / below if below else self.path
        found = {
            path.relative_to(self.path).as_posix(): path.stat().st_size
            for path in _files(root)
            if not path.name.startswith(".")
        }
        return dict(sorted(found.items()))

    def remove(self, name: str) -> None:
        (self.path / _checked(name)).unlink(missing_ok=True)

    def remove_debris(self) -> None:
        lock = lock_path(self.path)
        for path in _files(self.path):
            if path.name.startswith(".") and path != lock:
                path.unlink(missing_ok=True)
        for folder, _, _ in os.walk(self.path, topdown=False):
            if Path(folder) != self.path:
                with suppress(OSError):  # it holds something
                    Path(folder).rmdir()

    def where(self, name: str) -> str:
        return str(self.path / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        busy = f"another run is writing to {self.location}; wait for it, or take another folder"
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path, 0.0, OutputError(busy)))
            except OSError as error:
                raise OutputError(
                    f"cannot write to {self.location}: {error.strerror or error}; choose a folder "
                    "that you may write to"
                ) from error
            yield

    def map(self, name: str) -> NDArray[np.uint8] | None:
        path = self.path / _checked(name)
        size = path.stat().st_size
        if size < MIN_MAPPED_BYTES:
            return None
        import torch

        # Unlike Python's mmap this keeps no file open: tensors may hold any number of maps.
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        return cast("NDArray[np.uint8]", mapped.numpy())


class RemoteFolder(Folder):
    """A folder of fsspec (https://filesystem-spec.readthedocs.io): `s3://`, `gs://`, others.

    A file is written on this machine and uploaded. Object stores show an upload whole or not at
    all; where a place does otherwise, a cut file is found by its size and its digest.
    """

    def __init__(self, location: str) -> None:
        super().__init__(location.rstrip("/"))
        self._opened: tuple[Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def write_whole(self, name: str, write: Callable[[Path], None]) -> FileDigest:
        target = self._address(name)
        with tempfile.TemporaryDirectory(prefix="auricle-") as scratch:
            temporary = Path(scratch) / "file"
            try:
                write(temporary)
                with temporary.open("rb") as file:
                    digest = _digest(file)
                self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._system.put_file(str(temporary), target)
            except OSError as error:
                raise OutputError(
                    f"cannot write {self.where(name)}: {error.strerror or error}; choose a place "
                    "that you may write to"
                ) from error
        return digest

    def open(self, name: str) -> BinaryIO:
        return cast("BinaryIO", self._system.open(self._address(name), "rb"))

    def sizes(self, below: str = "") -> dict[str, int]:
        root = self._address(below).rstrip("/") if below else self._root
        try:
            found = self._system.find(root, detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._root) + 1
        sizes = {path[start:]: int(info["size"]) for path, info in sorted(found.items())}
        return {
            name: size
            for name, size in sizes.items()
            if not name.rpartition("/")[2].startswith(".")
        }

    def remove(self, name: str) -> None:
        try:
            self._system.rm_file(self._address(name))
        except FileNotFoundError:
            return

    def remove_debris(self) -> None:
        """Nothing: what is temporary lies on the machine that writes."""

    def where(self, name: str) -> str:
        return f"{self.location}/{name}"

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        found = self._system.cat_file(self._address(name), start=start, end=start + num_bytes)
        return cast("bytes", found)

    @property
    def _system(self) -> Any:
        return self._open()[0]

    @property
    def _root(self) -> str:
        return self._open()[1]

    def _address(self, name: str) -> str:
        return f"{self._root}/{_checked(name)}"

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            with optional("fsspec", self.location):
                from fsspec.core import url_to_fs
            try:
                system, root = url_to_fs(self.location)
            except ImportError as error:
                raise missing_extra(_driver(self.location), self.location, error) from error
            except ValueError as error:
                raise OutputError(f"cannot open {self.location}: {error}") from error
            self._opened = system, root.rstrip("/")
        return self._opened


def open_folder(location: str | Path) -> Folder:
    """The folder at a path of this machine, or at an address that fsspec knows (`s3://...`)."""
    text = str(location)
    protocol, separator, rest = text.partition("://")
    if isinstance(location, Path) or not separator:
        return LocalFolder(Path(location))
    return LocalFolder(Path(rest)) if protocol == "file" else RemoteFolder(text)


def _driver(location: str) -> str:
    """The package by which fsspec reads from such an address."""
    from fsspec.registry import known_implementations

    known = known_implementations.get(location.partition("://")[0], {})
    return str(known.get("class", "fsspec")).partition(".")[0]


def _checked(name: str) -> str:
    """`name`, which must stay below the folder, whatever an index says."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise OutputError(f"{name!r} does not name a file below the store")
    return name


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield Path(folder, name)


def _digest(file: BinaryIO) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(READ_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return FileDigest(size=size, sha256=digest.hexdigest())
