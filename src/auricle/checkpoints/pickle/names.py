"""Names that a checkpoint's pickle may hold, and the inert values that they stand for."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from auricle.checkpoints.pickle import values
from auricle.checkpoints.pickle.tensors import (
    MAX_REPEATED,
    STORAGE_DTYPES,
    TENSOR_DTYPES,
    StorageRef,
    StorageSource,
    StoredTensor,
    num_repeated,
    parameter,
    parse_storage_id,
    rebuild_tensor,
    view_storage,
)
from auricle.checkpoints.pickle.values import Args, InertName, InertRecord, set_item
from auricle.errors import CheckpointError

MAX_NAME_LENGTH = 256
"""Characters of the dotted name of a class."""
MAX_NAMES = 10_000
"""Different names in one file; one of fairseq has some thirty."""
MAX_TENSORS = 50_000
"""Tensors in one file; a model of two billion parameters has about a thousand."""

_OTHER_HOMES = {
    "__builtin__": "builtins",
    "exceptions": "builtins",
    "copy_reg": "copyreg",
    "_operator": "operator",
    "pathlib._local": "pathlib",
    "torch.storage": "torch",
    "torch.tensor": "torch._tensor",
    "numpy.core.multiarray": "numpy.multiarray",
    "numpy._core.multiarray": "numpy.multiarray",
    "numpy.core.numeric": "numpy.numeric",
    "numpy._core.numeric": "numpy.numeric",
}
"""Modules that name the same things: of Python 2, private twins, numpy before version 2."""

_TORCH_DTYPES = (*("complex32", "float8_e4m3fnuz", "float8_e5m2fnuz", "qint8", "quint8", "qint32"),)
_BASES = {
    f"builtins.{name}"
    for name in (
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list"),
        *("long", "object", "set", "str", "tuple", "unicode"),
    )
}
"""Types from whose values objects of subclasses are made."""
_NUMPY_TYPES = (
    *("ndarray", "matrix", "memmap", "bool", "bool_", "int8", "int16", "int32", "int64", "intc"),
    *("uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "longdouble"),
    *("complex64", "complex128", "str_", "bytes_", "void", "object_", "datetime64", "timedelta64"),
)

_VALUES = frozenset(
    _BASES
    | {"builtins.Ellipsis", "builtins.NotImplemented"}
    | {f"torch.{name}" for name in (*STORAGE_DTYPES, "TypedStorage", *_TORCH_DTYPES)}
    | set(TENSOR_DTYPES)
    | {f"numpy.{name}" for name in _NUMPY_TYPES}
)
"""Names that may stand as values but are never called."""

_VALUE_PACKAGES = ("typing", "collections.abc")

_RECORDS = frozenset(
    {
        "argparse.Namespace",
        "builtins.range",
        "builtins.slice",
        "builtins.xrange",
        "decimal.Decimal",
        "fractions.Fraction",
        "itertools.count",
        "random.Random",
        "time.struct_time",
        "types.GenericAlias",
        "types.SimpleNamespace",
        "uuid.UUID",
        "zoneinfo.ZoneInfo",
        "zoneinfo.ZoneInfo._unpickle",
        "torch.device",
        "torch.serialization._get_layout",
        "numpy.numeric._frombuffer",
        "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
    }
    | {f"collections.{name}" for name in ("ChainMap", "UserDict", "UserList", "UserString")}
    | {f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")}
    | {
        f"pathlib.{name}"
        for name in (
            *("Path", "PosixPath", "WindowsPath"),
            *("PurePath", "PurePosixPath", "PureWindowsPath"),
        )
    }
    | {
        f"numpy.random._pickle.__{kind}_ctor"
        for kind in ("randomstate", "generator", "bit_generator")
    }
    | {
        f"torch._utils._rebuild_{kind}"
        for kind in (
            *("qtensor", "sparse_tensor", "sparse_csr_tensor", "nested_tensor"),
            *("meta_tensor_no_storage", "device_tensor_from_numpy", "wrapper_subclass"),
        )
    }
)
"""Names that become an InertRecord by any opcode: those that libraries pickle objects by."""

_CLOSED_PACKAGES = sys.stdlib_module_names | {
    *("__builtins__", "commands", "distutils", "imp", "new", "pipes", "popen2", "urllib2"),
}
"""Python's own modules, of every platform and those that it had: only names that are listed."""

_REVIEWED_PACKAGES = ("numpy", "torch")
"""Packages whose callables are known, so that others than the listed ones are not called."""


class CheckpointNames:
    """The names that a checkpoint may hold, and what becomes of them; nothing is ever called.

    A class of a package that is not known here becomes an InertRecord. That a name is a class
    follows from an opcode that makes an instance (NEWOBJ and its kin), or from its spelling, which
    for a class starts with a capital letter. Anything else that would be called is refused, and so
    is every name in Python's own modules that is not listed.

    `copy_budget` bounds the items and bytes that constructors copy out of shared containers,
    so that a short stream cannot ask for endless copies of a long list; the length of the
    stream in bytes is enough for an honest one.
    """

    def __init__(self, storages: StorageSource, copy_budget: int) -> None:
        self._storages = storages
        self._copy_budget = copy_budget
        self._num_tensors = 0
        self._num_repeated = 0
        self._constructors = self._constructor_table()
        self._names: dict[tuple[str, str], InertName] = {}
        self._doubtful: set[str] = set()
        self.declared: dict[str, StorageRef] = {}

    def admit(self, module: str, qualname: str) -> InertName:
        """Return the stand-in of a name; raises CheckpointError for one not on the list."""
        if len(module) + len(qualname) > MAX_NAME_LENGTH:
            raise CheckpointError(f"refused: would call {module[:80]!r}, a name beyond reason")
        if (module, qualname) not in self._names:
            if len(self._names) >= MAX_NAMES:
                raise CheckpointError(f"refused: more than {MAX_NAMES} names of classes")
            self._names[module, qualname] = self._admit_new(module, qualname)
        return self._names[module, qualname]

    def _admit_new(self, module: str, qualname: str) -> InertName:
        home = _OTHER_HOMES.get(module, module)
        name = f"{home}.{qualname}"
        is_listed = name in self._constructors or name in _VALUES or name in _RECORDS
        if is_listed or (_lies_in(home, _VALUE_PACKAGES) and qualname.isidentifier()):
            return InertName(name)
        # a dotted name would reach through a module into what it imports
        is_plain = all(part.isidentifier() for part in name.split("."))
        is_open = home.partition(".")[0] not in _CLOSED_PACKAGES or _is_exception(name)
        if not is_plain or not is_open or ("." in qualname and not _is_spelt_as_class(qualname)):
            raise CheckpointError(f"refused: would call {f'{module}.{qualname}'!r}")
        if not _is_spelt_as_class(qualname):
            self._doubtful.add(name)
        return InertName(name)

    def construct(self, name: InertName, args: Args) -> object:
        """Return what calling an admitted name stands for; raises CheckpointError."""
        constructor = self._constructors.get(name.type_name)
        if constructor is not None:
            return constructor(args)
        home, _, last = name.type_name.rpartition(".")
        is_class = _is_spelt_as_class(last) and not _lies_in(home, _REVIEWED_PACKAGES)
        if name.type_name in _RECORDS or (is_class and not _is_value(name)):
            return InertRecord(name.type_name, args)
        raise CheckpointError(f"refused: would call {name.type_name!r}")

    def instance(self, name: InertName, args: Args) -> object:
        """Return what an instance of an admitted class stands for; raises CheckpointError."""
        if name.type_name.startswith("copyreg."):  # they would make instances in turn
            raise CheckpointError(f"refused: would make an instance of {name.type_name!r}")
        is_plain = name.type_name in self._constructors or _is_value(name)
        if is_plain and name.type_name != "builtins.object":
            return self.construct(name, args)
        self._doubtful.discard(name.type_name)
        return InertRecord(name.type_name, args)

    def is_tensor(self, value: object) -> bool:
        """Return whether a value is a tensor, whose attributes do not count."""
        return isinstance(value, StoredTensor)

    def close(self) -> None:
        """Raise CheckpointError if a name that is not spelt as a class had no instance."""
        if self._doubtful:
            raise CheckpointError(f"refused: names the function {min(self._doubtful)!r}")

    def persistent(self, identifier: object) -> InertRecord:
        """Return the storage, or the class, that a persistent id describes.

        Before torch 1.6 the class of a module is ('module', class, source file, source).
        """
        if isinstance(identifier, tuple) and len(identifier) == 4:
            kind, cls = identifier[:2]
            if isinstance(kind, str) and kind == "module" and isinstance(cls, InertName):
                return cls
        ref, view = parse_storage_id(identifier)
        known = self.declared.setdefault(ref.key, ref)
        if known.type_name != ref.type_name or known.num_elements != ref.num_elements:
            raise CheckpointError(
                f"storage {ref.label} is {known.num_elements} x {known.type_name} in one place "
                f"and {ref.num_elements} x {ref.type_name} in another"
            )
        return known if view is None else view_storage(known, view)

    def _constructor_table(self) -> dict[str, Callable[[Args], object]]:
        return {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor_v2,
            "torch._utils._rebuild_tensor_v3": self._tensor_v3,
            "torch._utils._rebuild_parameter": parameter,
            "torch._utils._rebuild_parameter_with_state": parameter,
            "torch.nn.parameter.Parameter": parameter,
            "torch._tensor._rebuild_from_type": self._tensor_of_type,
            "torch._tensor._rebuild_from_type_v2": self._tensor_of_type,
            "torch.Size": self._tuple,
            "collections.OrderedDict": self._dict,
            "collections.Counter": self._dict,
            "collections.defaultdict": values.default_dict,
            "collections.deque": self._deque,
            "builtins.dict": self._dict,
            "builtins.list": self._list,
            "builtins.set": self._list,
            "builtins.tuple": self._tuple,
            "builtins.frozenset": self._tuple,
            "builtins.bytes": self._bytes,
            "builtins.bytearray": self._bytes,
            "builtins.complex": values.complex_number,
            "builtins.type": values.none_type,
            "_codecs.encode": self._bytes,
            "operator.getitem": values.subscript,
            "builtins.getattr": self._member,
            "copyreg.__newobj__": self._new,
            "copyreg.__newobj_ex__": self._new_with_keywords,
            "copyreg._reconstructor": self._reconstruct,
            "numpy.dtype": values.dtype,
            "numpy.multiarray.scalar": self._scalar,
            "numpy.multiarray._reconstruct": values.array,
        }

    def _spend(self, num_copied: int) -> None:
        self._copy_budget -= num_copied
        if self._copy_budget < 0:
            raise CheckpointError("the pickle copies its own containers more often than it is long")

    def _list(self, args: Args) -> list[object]:
        items = values.exactly(args, 0, 1)[0] if args else []
        if not isinstance(items, (list, tuple)):
            raise CheckpointError(f"refused: a container from a {type(items).__name__}")
        self._spend(len(items))
        return list(items)

    def _tuple(self, args: Args) -> Args:
        return tuple(self._list(args))

    def _dict(self, args: Args) -> dict[object, object]:
        source = args[0] if len(args) == 1 else None
        items = list(source.items()) if isinstance(source, dict) else self._list(args)
        self._spend(len(items))
        result: dict[object, object] = {}
        for pair in items:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise CheckpointError("malformed pickle: a dict from items that are not pairs")
            set_item(result, pair[0], pair[1])
        return result

    def _deque(self, args: Args) -> list[object]:
        return self._list(values.exactly(args, 0, 2)[:1])  # the second is its greatest length

    def _new(self, args: Args) -> object:
        if not args or not isinstance(args[0], InertName):
            raise CheckpointError("refused: would make an instance of something that is no class")
        self._spend(len(args))
        return self.instance(args[0], args[1:])

    def _new_with_keywords(self, args: Args) -> object:
        cls, positional, keywords = values.exactly(args, 3, 3)
        if not isinstance(positional, tuple) or not isinstance(keywords, dict):
            raise CheckpointError("malformed pickle: arguments of an instance that are none")
        return self._new((cls, positional, keywords))

    def _reconstruct(self, args: Args) -> object:
        """Return the object of a class that pickle before protocol 2 makes from a plain value."""
        cls, base, value = values.exactly(args, 3, 3)
        if not isinstance(base, InertName) or base.type_name not in _BASES:
            raise CheckpointError("refused: would reconstruct an object from another type")
        record = self._new((cls,) if base.type_name == "builtins.object" else (cls, value))
        if isinstance(value, dict) and base.type_name == "builtins.dict":
            return self._dict((value,))
        if isinstance(value, list) and base.type_name == "builtins.list":
            return self._list((value,))
        return record

    def _member(self, args: Args) -> InertRecord:
        """Return a class in a class, or a member of an enumeration as Python 3.11.0 pickles it."""
        cls, attribute = values.exactly(args, 2, 2)
        if isinstance(cls, InertName) and f"{cls.type_name}.{attribute}" in _RECORDS:
            return InertName(f"{cls.type_name}.{attribute}")
        if (
            not isinstance(cls, InertName)
            or not _is_spelt_as_class(cls.type_name.rpartition(".")[2])
            or not isinstance(attribute, str)
            or attribute.startswith("_")
        ):
            raise CheckpointError("refused: would call 'builtins.getattr' on more than a class")
        name = self.admit(cls.type_name, attribute)
        self._doubtful.discard(name.type_name)
        return name if _is_spelt_as_class(attribute) else InertRecord(name.type_name)

    def _scalar(self, args: Args) -> object:
        self._spend(sum(len(part) for part in args[1:] if isinstance(part, (str, bytes))))
        return values.scalar(args)

    def _bytes(self, args: Args) -> bytes:
        text, *encoding = args or (b"",)
        if isinstance(text, bytes) and not encoding:
            return text
        is_known = len(encoding) == 1 and isinstance(encoding[0], str)
        if not isinstance(text, str) or not is_known or encoding[0] not in ("latin1", "latin-1"):
            raise CheckpointError("refused: bytes from something other than latin-1 text")
        self._spend(len(text))
        return values.latin1(text)

    def _tensor(self, args: Args) -> StoredTensor:
        return self._rebuild(values.exactly(args, 4, 4), None)

    def _tensor_of_type(self, args: Args) -> object:
        """Return the plain tensor of a subclass of it, or of one with attributes."""
        rebuild, _, inner, _ = values.exactly(args, 4, 4)
        is_known = isinstance(rebuild, InertName) and rebuild.type_name.startswith(
            "torch._utils._reb"
        )
        if not isinstance(rebuild, InertName) or not is_known or not isinstance(inner, tuple):
            raise CheckpointError("refused: would rebuild a tensor by something unknown")
        return self.construct(rebuild, inner)

    def _tensor_v2(self, args: Args) -> StoredTensor:
        _refuse_metadata(values.exactly(args, 6, 7)[6:])
        return self._rebuild(args[:4], None)

    def _tensor_v3(self, args: Args) -> StoredTensor:
        _refuse_metadata(values.exactly(args, 7, 8)[7:])
        dtype = args[6]
        if not isinstance(dtype, InertName) or dtype.type_name not in TENSOR_DTYPES:
            raise CheckpointError("a tensor whose dtype is not one of plain numbers")
        return self._rebuild(args[:4], TENSOR_DTYPES[dtype.type_name])

    def _rebuild(self, view: Args, dtype: torch.dtype | None) -> StoredTensor:
        self._num_tensors += 1
        if self._num_tensors > MAX_TENSORS:
            raise CheckpointError(f"more than {MAX_TENSORS} tensors in one file")
        ref, offset, size, stride = view
        tensor = rebuild_tensor(self._storages, ref, offset, size, stride, dtype)
        self._num_repeated += num_repeated(tensor.shape, tensor.stride())
        if self._num_repeated > MAX_REPEATED:
            raise CheckpointError(f"tensors that repeat more than {MAX_REPEATED} elements")
        return tensor


def _lies_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _is_value(name: InertName) -> bool:
    return name.type_name in _VALUES or _lies_in(name.type_name, _VALUE_PACKAGES)


def _is_spelt_as_class(qualname: str) -> bool:
    return all(part.lstrip("_")[:1].isupper() for part in qualname.split("."))


def _is_exception(name: str) -> bool:
    home, _, last = name.rpartition(".")
    return home == "builtins" and last.endswith(("Error", "Exception", "Warning"))


def _refuse_metadata(metadata: Args) -> None:
    for entry in metadata:
        if entry is not None and (not isinstance(entry, dict) or entry):
            raise CheckpointError("a tensor with conjugate or negative bits is not supported")
