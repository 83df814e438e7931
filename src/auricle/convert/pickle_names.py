"""Which names a checkpoint's pickle may hold, and the inert values that they stand for."""

from __future__ import annotations

import struct
from collections.abc import Callable

import torch

from auricle.convert.pickle_machine import Name, Record, set_item
from auricle.convert.pickle_tensors import (
    STORAGE_DTYPES,
    TENSOR_DTYPES,
    StorageRef,
    StorageSource,
    parse_storage_id,
    rebuild_tensor,
    view_storage,
)
from auricle.errors import CheckpointError

MAX_NAME_LENGTH = 256
"""Characters of the dotted name of a class."""
MAX_TENSORS = 200_000
"""Tensors in one file; a model of two billion parameters has about a thousand."""

_SCALAR_FORMATS = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}
"""From numpy's code of a scalar type to that of the struct module."""

_OTHER_HOMES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "_operator": "operator",
    "torch.storage": "torch",
    "numpy.core.multiarray": "numpy.multiarray",
    "numpy._core.multiarray": "numpy.multiarray",
}
"""Modules that name the same things: of Python 2, private twins, numpy before version 2."""

_VALUE_DTYPES = ("complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "qint8", "quint8")

_VALUES = frozenset(
    {f"builtins.{name}" for name in ("int", "long", "float", "str", "bool", "object", "Ellipsis")}
    | {f"torch.{name}" for name in (*STORAGE_DTYPES, "TypedStorage", *_VALUE_DTYPES)}
    | set(TENSOR_DTYPES)
    | {"numpy.ndarray"}
)
"""Names that may stand as values but are never called."""

_VALUE_PACKAGES = ("typing",)

_RECORDS = frozenset(
    {"argparse.Namespace", "pathlib.PosixPath", "pathlib.PurePosixPath", "torch.device"}
)

_RECORD_PACKAGES = ("omegaconf", "torch.optim", "optimizers", "fairseq.dataclass.constants")
"""Packages whose classes configure or train a model: any of them becomes a Record."""

_Args = tuple[object, ...]


class CheckpointNames:
    """The names that checkpoints of speech encoders need; all others are refused.

    `copy_budget` bounds the items and bytes that constructors copy out of shared containers,
    so that a short stream cannot ask for endless copies of a long list; the length of the
    stream in bytes is enough for an honest one.
    """

    def __init__(self, storages: StorageSource, copy_budget: int) -> None:
        self._storages = storages
        self._copy_budget = copy_budget
        self._num_tensors = 0
        self._constructors = self._constructor_table()
        self.declared: dict[str, StorageRef] = {}

    def admit(self, module: str, qualname: str) -> Name:
        """Return the stand-in of a name; raises CheckpointError for one not on the list."""
        if len(module) + len(qualname) > MAX_NAME_LENGTH:
            raise CheckpointError(f"refused: would call {module[:80]!r}, a name beyond reason")
        name = f"{_OTHER_HOMES.get(module, module)}.{qualname}"
        is_listed = (
            name in self._constructors
            or name in _VALUES
            or name in _RECORDS
            or _lies_in(module, _RECORD_PACKAGES)
            or _lies_in(module, _VALUE_PACKAGES)
        )
        # a dotted name would reach through a listed module into what it imports
        if not is_listed or not qualname.isidentifier():
            raise CheckpointError(f"refused: would call {f'{module}.{qualname}'!r}")
        return Name(name)

    def construct(self, name: Name, args: _Args) -> object:
        """Return what calling an admitted name stands for; raises CheckpointError."""
        constructor = self._constructors.get(name.type_name)
        if constructor is not None:
            return constructor(args)
        if _makes_record(name):
            return Record(name.type_name, args)
        raise CheckpointError(f"refused: would call {name.type_name!r}")

    def persistent(self, identifier: object) -> StorageRef:
        """Return the storage that a persistent id describes; raises CheckpointError."""
        ref, view = parse_storage_id(identifier)
        known = self.declared.setdefault(ref.key, ref)
        if known.type_name != ref.type_name or known.num_elements != ref.num_elements:
            raise CheckpointError(
                f"storage {ref.label} is {known.num_elements} x {known.type_name} in one place "
                f"and {ref.num_elements} x {ref.type_name} in another"
            )
        return known if view is None else view_storage(known, view)

    def _constructor_table(self) -> dict[str, Callable[[_Args], object]]:
        return {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor_v2,
            "torch._utils._rebuild_tensor_v3": self._tensor_v3,
            "torch._utils._rebuild_parameter": _parameter,
            "torch.nn.parameter.Parameter": _parameter,
            "torch.Size": self._tuple,
            "collections.OrderedDict": self._dict,
            "collections.defaultdict": _default_dict,
            "builtins.dict": self._dict,
            "builtins.list": self._list,
            "builtins.set": self._list,
            "builtins.tuple": self._tuple,
            "builtins.frozenset": self._tuple,
            "builtins.bytes": self._bytes,
            "builtins.bytearray": self._bytes,
            "builtins.complex": _complex,
            "_codecs.encode": self._bytes,
            "operator.getitem": _subscript,
            "copyreg._reconstructor": _reconstruct,
            "numpy.dtype": _dtype,
            "numpy.multiarray.scalar": _scalar,
            "numpy.multiarray._reconstruct": _array,
        }

    def _spend(self, num_copied: int) -> None:
        self._copy_budget -= num_copied
        if self._copy_budget < 0:
            raise CheckpointError("the pickle copies its own containers more often than it is long")

    def _list(self, args: _Args) -> list[object]:
        items = _exactly(args, 0, 1)[0] if args else []
        if not isinstance(items, (list, tuple)):
            raise CheckpointError(f"refused: a container from a {type(items).__name__}")
        self._spend(len(items))
        return list(items)

    def _tuple(self, args: _Args) -> _Args:
        return tuple(self._list(args))

    def _dict(self, args: _Args) -> dict[object, object]:
        source = args[0] if len(args) == 1 else None
        items = list(source.items()) if isinstance(source, dict) else self._list(args)
        self._spend(len(items))
        result: dict[object, object] = {}
        for pair in items:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise CheckpointError("malformed pickle: a dict from items that are not pairs")
            set_item(result, pair[0], pair[1])
        return result

    def _bytes(self, args: _Args) -> bytes:
        text, *encoding = args or (b"",)
        if isinstance(text, bytes) and not encoding:
            return text
        if not isinstance(text, str) or encoding not in (["latin1"], ["latin-1"]):
            raise CheckpointError("refused: bytes from something other than latin-1 text")
        self._spend(len(text))
        return _latin1(text)

    def _tensor(self, args: _Args) -> torch.Tensor:
        return self._rebuild(_exactly(args, 4, 4), None)

    def _tensor_v2(self, args: _Args) -> torch.Tensor:
        _refuse_metadata(_exactly(args, 6, 7)[6:])
        return self._rebuild(args[:4], None)

    def _tensor_v3(self, args: _Args) -> torch.Tensor:
        _refuse_metadata(_exactly(args, 7, 8)[7:])
        dtype = args[6]
        if not isinstance(dtype, Name) or dtype.type_name not in TENSOR_DTYPES:
            raise CheckpointError("a tensor whose dtype is not one of plain numbers")
        return self._rebuild(args[:4], TENSOR_DTYPES[dtype.type_name])

    def _rebuild(self, view: _Args, dtype: torch.dtype | None) -> torch.Tensor:
        self._num_tensors += 1
        if self._num_tensors > MAX_TENSORS:
            raise CheckpointError(f"more than {MAX_TENSORS} tensors in one file")
        ref, offset, size, stride = view
        return rebuild_tensor(self._storages, ref, offset, size, stride, dtype)


def _exactly(args: _Args, fewest: int, most: int) -> _Args:
    if not fewest <= len(args) <= most:
        raise CheckpointError(
            f"malformed pickle: {len(args)} arguments where {fewest} to {most} are expected"
        )
    return args


def _lies_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _makes_record(name: Name) -> bool:
    module = name.type_name.rpartition(".")[0]
    return name.type_name in _RECORDS or _lies_in(module, _RECORD_PACKAGES)


def _latin1(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise CheckpointError("malformed pickle: bytes above 255") from error


def _refuse_metadata(metadata: _Args) -> None:
    for entry in metadata:
        if entry is not None and (not isinstance(entry, dict) or entry):
            raise CheckpointError("a tensor with conjugate or negative bits is not supported")


def _parameter(args: _Args) -> torch.Tensor:
    tensor = _exactly(args, 1, 3)[0]
    if not isinstance(tensor, torch.Tensor):
        raise CheckpointError("malformed pickle: a parameter without a tensor")
    return tensor


def _default_dict(args: _Args) -> dict[object, object]:
    for factory in _exactly(args, 0, 1):
        if factory is not None and not isinstance(factory, Name):
            raise CheckpointError("refused: a defaultdict whose default is not a type")
    return {}


def _complex(args: _Args) -> Record:
    return Record("builtins.complex", args)


def _subscript(args: _Args) -> Record:
    generic, parameters = _exactly(args, 2, 2)
    if not isinstance(generic, Name) or not generic.type_name.startswith("typing."):
        raise CheckpointError("refused: would call 'operator.getitem' on more than a typing name")
    return Record(generic.type_name, (parameters,))


def _reconstruct(args: _Args) -> Record:
    cls, base, state = _exactly(args, 3, 3)
    if not isinstance(cls, Name) or not _makes_record(cls):
        raise CheckpointError("refused: would reconstruct an object of a type not on the list")
    if not isinstance(base, Name) or base.type_name != "builtins.object" or state is not None:
        raise CheckpointError(f"refused: would reconstruct {cls.type_name!r} from another type")
    return Record(cls.type_name)


def _dtype(args: _Args) -> Record:
    code = _exactly(args, 1, 3)[0]
    if not isinstance(code, str) or code not in _SCALAR_FORMATS:
        shown = code[:40] if isinstance(code, str) else type(code).__name__
        raise CheckpointError(f"refused: numpy data of dtype {shown!r}; expected plain numbers")
    return Record("numpy.dtype", (code,))


def _scalar(args: _Args) -> int | float | bool:
    dtype, data = _exactly(args, 2, 2)
    if not isinstance(dtype, Record) or dtype.type_name != "numpy.dtype" or not dtype.args:
        raise CheckpointError("malformed pickle: a numpy scalar without a dtype")
    if isinstance(data, str) and len(data) <= 8:  # as Python 2 wrote bytes
        data = _latin1(data)
    order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "<"
    layout = (">" if order == ">" else "<") + _SCALAR_FORMATS[str(dtype.args[0])]
    if not isinstance(data, bytes) or len(data) != struct.calcsize(layout):
        raise CheckpointError("malformed pickle: a numpy scalar with too few or too many bytes")
    value: int | float | bool = struct.unpack(layout, data)[0]
    return value


def _array(args: _Args) -> Record:
    cls = _exactly(args, 1, 3)[0]
    if not isinstance(cls, Name) or cls.type_name != "numpy.ndarray":
        raise CheckpointError("refused: an array of another class than 'numpy.ndarray'")
    return Record("numpy.ndarray")
