"""Tensors of a checkpoint: views on storages whose bytes lie outside the pickle."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from auricle.checkpoints.pickle.values import Args, InertName, InertRecord, exactly
from auricle.errors import CheckpointError

MAX_DIMENSIONS = 16
MAX_EXTENT = 2**48
"""Largest size, stride or offset of a tensor, in elements; far above any file."""

MAX_REPEATED = 2**24
"""Elements that tensors of one file may have beyond those of their storages (`Tensor.expand`)."""

MAX_STORAGE_KEY_LENGTH = 256
"""Characters of a storage's key; torch writes a number."""

UNTYPED_STORAGE = "UntypedStorage"
STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    UNTYPED_STORAGE: torch.uint8,
}
"""The dtype of each storage class of torch; untyped ones count bytes."""

TENSOR_DTYPES = {
    str(dtype): dtype
    for dtype in (
        *STORAGE_DTYPES.values(),
        *(torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2),
    )
}
"""By dotted name; a tensor on an untyped storage names one of these."""


@dataclass(eq=False, slots=True)
class StorageRef(InertRecord):
    """A torch storage kept outside the pickle: a run of elements of the storage `key`."""

    key: str = ""
    dtype: torch.dtype = torch.uint8
    num_elements: int = 0
    start: int = 0
    num_viewed: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole storage."""
        return self.num_elements * self.dtype.itemsize

    @property
    def label(self) -> str:
        """The key as error messages show it."""
        return repr(self.key)


class StorageSource(Protocol):
    """Source of the bytes of storages."""

    def storage(self, ref: StorageRef) -> torch.UntypedStorage:
        """Return the whole storage, the same one at every call for its key."""


class StoredTensor(torch.Tensor):
    """A tensor whose bytes are read when something is computed of it, and never before.

    Shape, strides and dtype are known without. Whatever else is done with it is done with the
    tensor in memory, so that a checkpoint's tensors that nothing uses are never read.
    """

    _ref: StorageRef
    _source: StorageSource
    _offset: int
    _content: torch.Tensor | None

    @classmethod
    def on_storage(
        cls,
        source: StorageSource,
        ref: StorageRef,
        dtype: torch.dtype,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int,
    ) -> StoredTensor:
        """Return a tensor that views a storage from element `offset` on, and lies inside it."""
        empty = torch.empty_strided(shape, strides, dtype=dtype, device="meta")
        stored: StoredTensor = torch.Tensor._make_subclass(cls, empty)
        stored._source, stored._ref, stored._offset, stored._content = source, ref, offset, None
        return stored

    def read(self) -> torch.Tensor:
        """Return the tensor in memory, the same one at every call.

        Raises CheckpointError if its bytes are damaged.
        """
        if self._content is None:
            storage = self._source.storage(self._ref)
            empty = torch.empty(0, dtype=self.dtype)
            self._content = empty.set_(storage, self._offset, self.shape, self.stride())
        return self._content

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _KNOWN_UNREAD:
            return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        return func(*_read(args), **_read(kwargs or {}))


def _read(value: Any) -> Any:
    """The arguments of a function with tensors in memory."""
    if isinstance(value, StoredTensor):
        return value.read()
    if type(value) in (list, tuple):
        return type(value)(map(_read, value))
    return {name: _read(item) for name, item in value.items()} if type(value) is dict else value


_KNOWN_UNREAD = frozenset(
    {
        *(torch.Tensor.size, torch.Tensor.stride, torch.Tensor.dim, torch.Tensor.numel),
        *(torch.Tensor.is_floating_point, torch.Tensor.is_complex, torch.Tensor.__len__),
        *(
            getattr(torch.Tensor, name).__get__
            for name in ("shape", "dtype", "ndim", "requires_grad")
        ),
    }
)
"""Properties that are known of a tensor whose bytes have not been read."""


def parse_storage_id(identifier: object) -> tuple[StorageRef, object]:
    """Return the storage of ('storage', type, key, location, elements[, view]), and the view.

    Raises CheckpointError for any other persistent id.
    """
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6):
        raise CheckpointError(
            f"a persistent id of type {type(identifier).__name__}; expected a tuple "
            "('storage', type, key, location, number of elements)"
        )
    kind, storage_type, key, _, num_elements = identifier[:5]
    if (
        not isinstance(kind, str)
        or kind != "storage"
        or not isinstance(key, str)
        or len(key) > MAX_STORAGE_KEY_LENGTH
        or not isinstance(storage_type, InertName)
    ):
        raise CheckpointError("a persistent id that does not describe a torch storage")
    dtype = STORAGE_DTYPES.get(storage_type.type_name.removeprefix("torch."))
    if dtype is None:
        raise CheckpointError(f"storage {key!r} is of type {storage_type.type_name!r}")
    count = _extent(num_elements, "number of elements of a storage")
    ref = StorageRef(
        storage_type.type_name, key=key, dtype=dtype, num_elements=count, num_viewed=count
    )
    return ref, identifier[5] if len(identifier) == 6 else None


def view_storage(whole: StorageRef, view: object) -> StorageRef:
    """Return part of a storage, which files of before torch 1.6 give as (key, start, size).

    Raises CheckpointError for a view that reaches outside the storage.
    """
    if not isinstance(view, tuple) or len(view) != 3:
        raise CheckpointError(f"malformed view of storage {whole.label}")
    start = _extent(view[1], "start of a storage view")
    size = _extent(view[2], "size of a storage view")
    if start + size > whole.num_elements:
        raise CheckpointError(
            f"a view of elements {start} to {start + size} of storage {whole.label}, which has "
            f"{whole.num_elements}"
        )
    return replace(whole, start=start, num_viewed=size)


def rebuild_tensor(
    source: StorageSource,
    ref: object,
    offset: object,
    size: object,
    stride: object,
    dtype: torch.dtype | None = None,
) -> StoredTensor:
    """Return a tensor on its storage once its view is known to lie inside.

    `dtype` is that of a tensor on an untyped storage, and None for the others. Raises
    CheckpointError for sizes, strides or an offset that are not counts or reach outside.
    """
    if not isinstance(ref, StorageRef):
        raise CheckpointError("malformed pickle: a tensor without a storage")
    if (ref.type_name == f"torch.{UNTYPED_STORAGE}") != (dtype is not None):
        raise CheckpointError(f"storage {ref.label} does not fit the dtype of its tensor")
    dtype = dtype or ref.dtype
    elements_per_unit = dtype.itemsize // ref.dtype.itemsize
    if ref.start % elements_per_unit:
        raise CheckpointError(f"storage {ref.label} is not aligned to {dtype}")
    num_viewed = ref.num_viewed // elements_per_unit
    shape, strides, first = _checked_view(ref.label, num_viewed, offset, size, stride)
    first += ref.start // elements_per_unit
    return StoredTensor.on_storage(source, ref, dtype, shape, strides, first)


def parameter(args: Args) -> StoredTensor:
    """Return the tensor of a parameter."""
    tensor = exactly(args, 1, 4)[0]
    if not isinstance(tensor, StoredTensor):
        raise CheckpointError("malformed pickle: a parameter without a tensor")
    return tensor


def _checked_view(
    label: str, num_viewed: int, offset: object, size: object, stride: object
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    shape, strides = _extents(size, "size"), _extents(stride, "stride")
    first = _extent(offset, "offset of a tensor")
    if len(shape) != len(strides):
        raise CheckpointError(f"a tensor with {len(shape)} sizes and {len(strides)} strides")
    num_elements: int = math.prod(shape)
    repeated = num_repeated(shape, strides)
    # a stride of 0 lets a small storage pose as a huge tensor; so may an empty one, to arithmetic
    if (
        num_elements - repeated > num_viewed
        or repeated > MAX_REPEATED
        or math.prod([n for n in shape if n]) > MAX_EXTENT
    ):
        raise CheckpointError(
            f"a tensor of shape {shape} on storage {label}, which has {num_viewed} elements"
        )
    last = first + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if first > num_viewed or (num_elements and last >= num_viewed):
        raise CheckpointError(
            f"a tensor that reaches element {max(first, last)} of storage {label}, which has "
            f"{num_viewed}"
        )
    return shape, strides, first


def num_repeated(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Return how many elements of a tensor stand for others, in dimensions of stride 0."""
    distinct = [size for size, stride in zip(shape, strides, strict=True) if stride or not size]
    return math.prod(shape) - math.prod(distinct)


def _extent(value: object, what: str) -> int:
    # `True` is an int too, but not one that a tensor was saved with
    if type(value) is not int or not 0 <= value <= MAX_EXTENT:
        shown = value if type(value) is int else type(value).__name__
        raise CheckpointError(f"the {what} is {shown}; expected 0 to {MAX_EXTENT}")
    return value


def _extents(values: object, what: str) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > MAX_DIMENSIONS:
        raise CheckpointError(f"the {what} of a tensor is not a tuple of at most {MAX_DIMENSIONS}")
    return tuple(_extent(value, f"{what} of a tensor") for value in values)


def fill_from_file(file: io.BufferedReader, target: torch.Tensor) -> memoryview:
    """Read the next bytes of a file into a 1-D uint8 tensor and return a view of them.

    Raises CheckpointError if the file ends before the tensor is full.
    """
    view: memoryview = target.numpy().data
    num_read = 0
    while num_read < len(view):
        count = file.readinto(view[num_read:])
        if not count:
            raise CheckpointError(
                f"the file is cut short: {len(view) - num_read} bytes of a storage are missing"
            )
        num_read += count
    return view
