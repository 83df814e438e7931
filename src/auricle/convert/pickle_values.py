"""The plain values and records that the few callables stand for which a checkpoint may name."""

from __future__ import annotations

import struct

from auricle.convert.pickle_machine import Name, Record
from auricle.convert.pickle_tensors import StoredTensor
from auricle.errors import CheckpointError

Args = tuple[object, ...]

MAX_DTYPE_LENGTH = 64
"""Characters of numpy's code of a dtype."""

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


def exactly(args: Args, fewest: int, most: int) -> Args:
    """Return the arguments; raises CheckpointError unless there are `fewest` to `most`."""
    if not fewest <= len(args) <= most:
        raise CheckpointError(
            f"malformed pickle: {len(args)} arguments where {fewest} to {most} are expected"
        )
    return args


def latin1(text: str) -> bytes:
    """Return the bytes that a protocol before 3 writes as text."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise CheckpointError("malformed pickle: bytes above 255") from error


def parameter(args: Args) -> StoredTensor:
    """Return the tensor of a parameter."""
    tensor = exactly(args, 1, 4)[0]
    if not isinstance(tensor, StoredTensor):
        raise CheckpointError("malformed pickle: a parameter without a tensor")
    return tensor


def default_dict(args: Args) -> dict[object, object]:
    """Return an empty dict; raises CheckpointError for a default that is no type."""
    for factory in exactly(args, 0, 1):
        if factory is not None and not isinstance(factory, Name):
            raise CheckpointError("refused: a defaultdict whose default is not a type")
    return {}


def complex_number(args: Args) -> Record:
    """Return a record of the real and the imaginary part."""
    return Record("builtins.complex", args)


def none_type(args: Args) -> Name:
    """Return the name of the type of None, which hints such as `Optional[int]` hold."""
    if exactly(args, 1, 1)[0] is not None:
        raise CheckpointError("refused: would call 'builtins.type' on more than None")
    return Name("builtins.NoneType")


def subscript(args: Args) -> Record:
    """Return a record of a generic type, such as `typing.List[int]`, and its parameters."""
    generic, parameters = exactly(args, 2, 2)
    if not isinstance(generic, Name) or not generic.type_name.startswith("typing."):
        raise CheckpointError("refused: would call 'operator.getitem' on more than a typing name")
    return Record(generic.type_name, (parameters,))


def dtype(args: Args) -> Record:
    """Return a record of numpy's code of a dtype; its state will hold the byte order."""
    code = exactly(args, 1, 3)[0]
    if not isinstance(code, str) or len(code) > MAX_DTYPE_LENGTH:
        raise CheckpointError("malformed pickle: a numpy dtype without a short code")
    return Record("numpy.dtype", (code,))


def scalar(args: Args) -> object:
    """Return the number or the text of a numpy scalar; one of another dtype stays a Record."""
    kind, data = exactly(args, 2, 2)
    if not isinstance(kind, Record) or kind.type_name != "numpy.dtype" or not kind.args:
        raise CheckpointError("malformed pickle: a numpy scalar without a dtype")
    code = str(kind.args[0])
    if isinstance(data, str):  # as Python 2 wrote bytes
        data = latin1(data)
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "<"
    mark = ">" if isinstance(order, str) and order == ">" else "<"
    if code[:1] == "S" and isinstance(data, bytes):
        return data.rstrip(b"\0")
    if code[:1] == "U" and isinstance(data, bytes):
        encoding = "utf-32-be" if mark == ">" else "utf-32-le"
        return data.decode(encoding, "replace").rstrip("\0")
    if code not in _SCALAR_FORMATS:
        return Record("numpy.multiarray.scalar", (kind, data))
    layout = mark + _SCALAR_FORMATS[code]
    if not isinstance(data, bytes) or len(data) != struct.calcsize(layout):
        raise CheckpointError("malformed pickle: a numpy scalar with too few or too many bytes")
    value: int | float | bool = struct.unpack(layout, data)[0]
    return value


def array(args: Args) -> Record:
    """Return a record whose state will be shape, dtype and bytes of a numpy array."""
    cls = exactly(args, 1, 3)[0]
    if not isinstance(cls, Name) or not cls.type_name.startswith("numpy."):
        raise CheckpointError("refused: an array of a class that is not of numpy")
    return Record(cls.type_name)
