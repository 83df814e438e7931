"""Archives that pickles come in: the zip files of `torch.save`, and joblib's files of arrays.

Of zip archives stored members alone are read, never extracted. joblib, by which scikit-learn's
users save, writes an array as an object of its own, followed by the bytes of the array in the midst
of the pickle (https://github.com/joblib/joblib, `numpy_pickle.NumpyArrayWrapper`), and may compress
all of the file. Nothing of either is run.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray

from auricle.checkpoints.pickle.machine import PickleStream, read_pickle
from auricle.checkpoints.pickle.names import CheckpointNames
from auricle.checkpoints.pickle.tensors import StorageRef, fill_from_file
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError

MAX_BYTES = 2**30
"""Bytes of a pickle, uncompressed: far above those of any centroids, with room for labels."""

MAX_DIMENSIONS = 32

_HOMES = ("joblib.numpy_pickle", "sklearn.externals.joblib.numpy_pickle")
_WRAPPER = "NumpyArrayWrapper"
_OLD_WRAPPERS = ("NDArrayWrapper", "ZNDArrayWrapper")
"""Of joblib before 0.10 (2016), which wrote arrays to files beside the pickle."""

_ARRAY_TYPES = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"))
"""numpy's codes of the types of plain numbers."""

_LZ4 = b"\x04\x22\x4d\x18"


def read_pickled_arrays(path: Path) -> object:
    """Return the content of a file of joblib or pickle, without running any of it.

    Arrays of numbers, in joblib's form or numpy's own, are NumPy arrays in memory; other objects
    are as in `read_legacy_checkpoint`, an `InertRecord` each. Files may be compressed by zlib,
    gzip, bz2, lzma or xz.

    Raises:
        CheckpointError: The file would run code, is damaged, or is compressed otherwise.
    """
    try:
        with path.open("rb") as file:
            content = _uncompressed(file)
            stream = PickleStream(content, MAX_BYTES)
            return _Reading(stream, MAX_BYTES).value()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); fetch it again") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _uncompressed(file: BinaryIO) -> BinaryIO:
    """The file at its start, or what it holds where it is compressed."""
    head = file.read(8)
    file.seek(0)
    if head.startswith(_LZ4):
        raise CheckpointError(
            "compressed by lz4, which is not read here; where you trust it, write it again without "
            "compression: joblib.dump(joblib.load(file), new_file)"
        )
    openers: dict[bytes, Callable[[BinaryIO], io.BufferedIOBase]] = {
        b"\x1f\x8b": lambda compressed: gzip.GzipFile(fileobj=compressed),
        b"BZh": bz2.BZ2File,
        b"\xfd7zXZ": lzma.LZMAFile,
        b"]\x00": lzma.LZMAFile,
    }
    is_zlib = head[:1] == b"x" and len(head) > 1 and (head[0] * 256 + head[1]) % 31 == 0
    opener = next((one for magic, one in openers.items() if head.startswith(magic)), None)
    if is_zlib:  # RFC 1950: the first two bytes are a multiple of 31
        content = zlib.decompressobj().decompress(file.read(), MAX_BYTES + 1)
    elif opener is not None:
        content = opener(file).read(MAX_BYTES + 1)
    else:
        return file
    if len(content) > MAX_BYTES:
        raise CheckpointError(f"unfolds to more than {MAX_BYTES} bytes")
    return io.BytesIO(content)


class _NoStorages:
    """Source of storages of torch, which these files do not hold."""

    def storage(self, ref: StorageRef) -> torch.UntypedStorage:
        raise CheckpointError(f"a tensor of torch, {ref.label}, in a pickle that is not of torch")


class _Reading:
    """One pass over a pickle with arrays in its midst."""

    def __init__(self, stream: PickleStream, num_bytes: int) -> None:
        self._stream = stream
        self._names = CheckpointNames(_NoStorages(), copy_budget=num_bytes)

    def value(self) -> object:
        """The value of the next pickle of the stream."""
        return read_pickle(self._stream, self._names, self._followed)

    def _followed(self, record: InertRecord) -> object:
        """The array that follows a wrapper of joblib, or that numpy's own record is."""
        home, _, name = record.type_name.rpartition(".")
        if home in _HOMES and name == _WRAPPER:
            return self._wrapped(record)
        if home in _HOMES and name in _OLD_WRAPPERS:
            raise CheckpointError(
                "written by joblib before 0.10, with arrays in files of their own; where you trust "
                "it, write it again: joblib.dump(joblib.load(file), new_file)"
            )
        return array_of(record)

    def _wrapped(self, record: InertRecord) -> object:
        state = record.state if isinstance(record.state, dict) else {}
        shape, dtype = state.get("shape"), state.get("dtype")
        code, order = _type_code(dtype)
        if code.startswith("O"):
            return self.value()
        width = re.fullmatch(r"[a-zA-Z](\d{1,6})", code)
        if width is None or not isinstance(shape, tuple) or not _is_shape(shape):
            raise CheckpointError(f"malformed array of type {code!r} in a file of joblib")
        if state.get("numpy_array_alignment_bytes") is not None:
            self._bytes(self._bytes(1)[0])
        unit = 4 if code.startswith("U") else 1
        data = self._bytes(math.prod(shape) * int(width[1]) * unit)
        return _array(code, order, shape, data, is_fortran=state.get("order") == "F", other=record)

    def _bytes(self, count: int) -> bytes:
        data = self._stream.read(count) if count else b""
        if len(data) != count:
            raise CheckpointError(f"cut short: an array has {len(data)} of {count} bytes")
        return data


def array_of(value: object) -> object:
    """The NumPy array that the record of one is, as `read_legacy_checkpoint` has it; else `value`.

    Raises:
        CheckpointError: It is the record of an array, and malformed.
    """
    if not isinstance(value, InertRecord):
        return value
    if value.type_name == "numpy.numeric._frombuffer" and len(value.args) == 4:  # protocol 5
        data, dtype, shape, order = value.args
        is_fortran = order == "F"
    elif (
        value.type_name == "numpy.ndarray"
        and isinstance(value.state, tuple)
        and len(value.state) == 5
    ):
        _, shape, dtype, is_fortran, data = value.state
    else:
        return value
    code, byte_order = _type_code(dtype)
    if isinstance(data, str):  # as Python 2 wrote bytes
        data = data.encode("latin-1", "replace")
    if not isinstance(data, bytes) or not _is_shape(shape):
        return value  # an array of objects
    return _array(code, byte_order, shape, data, is_fortran=bool(is_fortran), other=value)


def _array(
    code: str, order: str, shape: Any, data: bytes, *, is_fortran: bool, other: InertRecord
) -> object:
    """An array of numbers; `other` for one of another type."""
    if code not in _ARRAY_TYPES:
        return other
    dtype = np.dtype(order + code)
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"an array of shape {shape} and {code} has {len(data)} bytes")
    flat: NDArray[Any] = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
    return flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)


def _type_code(dtype: object) -> tuple[str, str]:
    """numpy's code of a type, such as `f4`, and its byte order, `<` or `>`."""
    if not isinstance(dtype, InertRecord) or dtype.type_name != "numpy.dtype" or not dtype.args:
        raise CheckpointError("malformed pickle: an array without a dtype")
    state = dtype.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    return str(dtype.args[0]), ">" if order == ">" else "<"


def _is_shape(shape: object) -> bool:
    """True for a tuple of a few sizes."""
    return (
        isinstance(shape, tuple)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size <= MAX_BYTES for size in shape)
    )


MAX_DIRECTORY_BYTES = 16 * 2**20
"""Some 80 bytes for each tensor; `zipfile` takes ten times as much to read them."""

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""Signature, version, flags, method, time, date, CRC, sizes, lengths of name and extra field
(APPNOTE.TXT of the zip format, 4.3.7)."""
_LOCAL_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
"""Flag bits: encrypted, strongly encrypted, central directory encrypted (APPNOTE.TXT, 4.4.4)."""
_UTF8_NAME = 0x0800

_UNREADABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    OSError,
    struct.error,
)


@dataclass(frozen=True)
class _Member:
    start: int
    num_bytes: int
    crc: int


class ZipArchive:
    """The members of one archive under its one root folder, checked against each other.

    Raises CheckpointError for an archive that is damaged, or that `torch.save` cannot have
    written: compressed, encrypted or linked members, names that leave the root, duplicates,
    members that overlap or are larger than the file.
    """

    def __init__(self, file: io.BufferedReader, file_bytes: int) -> None:
        self._file = file
        try:
            with zipfile.ZipFile(cast(IO[bytes], _Directory(file))) as archive:
                entries = archive.infolist()
        except _UNREADABLE as error:
            raise CheckpointError(f"damaged or truncated zip archive ({error})") from error
        self._members = _checked_members(file, file_bytes, entries)
        roots = {name.partition("/")[0] for name in self._members}
        if len(roots) != 1:
            raise CheckpointError(
                f"a zip archive with {len(roots)} root folders; torch.save writes one"
            )
        self._root = roots.pop()

    def size(self, name: str) -> int | None:
        """Return the bytes of a member, named relative to the root; None if there is none."""
        member = self._members.get(f"{self._root}/{name}")
        return None if member is None else member.num_bytes

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the content of a small member; raises CheckpointError if missing or damaged."""
        num_bytes = self.size(name)
        if num_bytes is not None and num_bytes > max_bytes:
            raise CheckpointError(f"{name!r} has {num_bytes} bytes; expected at most {max_bytes}")
        return self.read_tensor(name).numpy().tobytes()

    def read_tensor(self, name: str) -> torch.Tensor:
        """Return the content of a member as a 1-D tensor of bytes.

        Raises CheckpointError for a member that is missing, cut short or fails its checksum.
        """
        member = self._members.get(f"{self._root}/{name}")
        if member is None:
            raise CheckpointError(f"the archive has no member {name[:120]!r}")
        content = torch.empty(member.num_bytes, dtype=torch.uint8)
        self._file.seek(member.start)
        if zlib.crc32(fill_from_file(self._file, content)) != member.crc:
            raise CheckpointError(f"member {name[:120]!r} does not match its checksum")
        return content


class _Directory:
    """A file as `zipfile` sees it, which reads a directory at once and makes objects of it."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1, /) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(
                f"a directory of {size} bytes; expected at most {MAX_DIRECTORY_BYTES}"
            )
        return self._file.read(size)


def _checked_members(
    file: io.BufferedReader, file_bytes: int, entries: list[zipfile.ZipInfo]
) -> dict[str, _Member]:
    members: dict[str, _Member] = {}
    end_of_last = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = entry.orig_filename
        _check_name(name)
        _check_storage(entry)
        if name in members:
            raise CheckpointError(f"the archive has two members {name[:120]!r}")
        start = _data_start(file, entry)
        if entry.header_offset < end_of_last or start + entry.file_size > file_bytes:
            raise CheckpointError(
                f"member {name[:120]!r} overlaps another one or reaches past the end of the file"
            )
        end_of_last = start + entry.file_size
        members[name] = _Member(start, entry.file_size, entry.CRC)
    return members


def _check_name(name: str) -> None:
    parts = name.split("/")
    is_plain = len(parts) > 1 and all(part not in ("", ".", "..") for part in parts)
    if not is_plain or "\\" in name or ":" in parts[0] or "\0" in name:
        raise CheckpointError(f"the archive has a member with the unsafe name {name[:120]!r}")


def _check_storage(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename[:120]
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise CheckpointError(f"member {name!r} is compressed; torch.save stores its members")
    if entry.flag_bits & _ENCRYPTED:
        raise CheckpointError(f"member {name!r} is encrypted")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise CheckpointError(f"member {name!r} is a link")


def _data_start(file: io.BufferedReader, entry: zipfile.ZipInfo) -> int:
    """Return where a member's bytes start, from its own header, which must agree on its name."""
    name = entry.orig_filename
    try:
        file.seek(entry.header_offset)
        header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        own_name = file.read(header[9])
        listed_name = name.encode("utf-8" if entry.flag_bits & _UTF8_NAME else "cp437")
    except _UNREADABLE as error:
        raise CheckpointError(f"member {name[:120]!r} has no header of its own") from error
    if header[0] != _LOCAL_SIGNATURE or own_name != listed_name:
        raise CheckpointError(f"member {name[:120]!r} disagrees with the archive's directory")
    if header[3] != zipfile.ZIP_STORED or header[2] & _ENCRYPTED:
        raise CheckpointError(f"member {name[:120]!r} is compressed or encrypted")
    start: int = entry.header_offset + _LOCAL_HEADER.size + header[9] + header[10]
    return start
