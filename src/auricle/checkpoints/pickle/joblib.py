"""Reading of pickles of arrays, as joblib and scikit-learn's users write them, without running any.

joblib writes an array as an object of its own, followed by the bytes of the array in the midst of
the pickle (https://github.com/joblib/joblib, `numpy_pickle.NumpyArrayWrapper`), and may compress
all of the file.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from auricle.checkpoints.pickle.machine import PickleStream, read_pickle
from auricle.checkpoints.pickle.names import CheckpointNames
from auricle.checkpoints.pickle.tensors import StorageRef
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
