"""The plain values and records that the few callables stand for which a checkpoint may name."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from auricle.errors import CheckpointError

Args = tuple[object, ...]

MAX_TUPLE_KEYS = 1000
"""Tuple keys in one dict: the hash of a tuple can be forged, so their number is kept small."""
MAX_TUPLE_KEY_ITEMS = 16
MAX_KEY_LENGTH = 4096
"""Characters of a dict key: equal keys are compared in full at each use."""
MAX_KEY_BITS = 63
"""Bits of an integer key: longer integers can be made to share one hash."""
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


@dataclass(eq=False, slots=True)
class InertRecord:
    """Stand-in for an object of another library: the name of its type and what it was made of.

    `args` are the arguments that its constructor would have got, or a pair of these and of its
    keywords, `state` is what would have become its attributes (mostly a dict) or None. Records
    compare by identity: their contents may hold cycles.
    """

    type_name: str
    args: tuple[object, ...] = field(default=(), repr=False)
    state: object = field(default=None, repr=False)


class InertName(InertRecord):
    """A class or function that a stream names; as a value it stands for itself, uncalled."""

    __slots__ = ()


def set_item(mapping: dict[object, object], key: object, value: object) -> None:
    """Put a value into a dict, refusing keys that are unhashable or made to collide.

    Raises CheckpointError for a key other than a bool, float, None, an InertRecord, a str or bytes
    that is not long, an integer of at most 63 bits, or a short tuple of these.
    """
    if isinstance(key, tuple):
        if len(key) > MAX_TUPLE_KEY_ITEMS or len(mapping) >= MAX_TUPLE_KEYS:
            raise CheckpointError(
                f"a dict with too many or too long tuple keys ({len(mapping)} entries, key of "
                f"{len(key)} items)"
            )
        parts = key
    else:
        parts = (key,)
    for part in parts:
        if not _is_plain_key(part):
            raise CheckpointError(
                f"a dict key of type {type(part).__name__}; expected a float, bool, None, a str "
                f"or bytes of at most {MAX_KEY_LENGTH}, or an integer of at most "
                f"{MAX_KEY_BITS} bits"
            )
    mapping[key] = value


def _is_plain_key(part: object) -> bool:
    if isinstance(part, (str, bytes)):
        return len(part) <= MAX_KEY_LENGTH
    if isinstance(part, int):
        return part.bit_length() <= MAX_KEY_BITS
    return part is None or isinstance(part, (float, InertRecord))  # a record's hash is its identity


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


def default_dict(args: Args) -> dict[object, object]:
    """Return an empty dict; raises CheckpointError for a default that is no type."""
    for factory in exactly(args, 0, 1):
        if factory is not None and not isinstance(factory, InertName):
            raise CheckpointError("refused: a defaultdict whose default is not a type")
    return {}


def complex_number(args: Args) -> InertRecord:
    """Return a record of the real and the imaginary part."""
    return InertRecord("builtins.complex", args)


def none_type(args: Args) -> InertName:
    """Return the name of the type of None, which hints such as `Optional[int]` hold."""
    if exactly(args, 1, 1)[0] is not None:
        raise CheckpointError("refused: would call 'builtins.type' on more than None")
    return InertName("builtins.NoneType")


def subscript(args: Args) -> InertRecord:
    """Return a record of a generic type, such as `typing.List[int]`, and its parameters."""
    generic, parameters = exactly(args, 2, 2)
    if not isinstance(generic, InertName) or not generic.type_name.startswith("typing."):
        raise CheckpointError("refused: would call 'operator.getitem' on more than a typing name")
    return InertRecord(generic.type_name, (parameters,))


def dtype(args: Args) -> InertRecord:
    """Return a record of numpy's code of a dtype; its state will hold the byte order."""
    code = exactly(args, 1, 3)[0]
    if not isinstance(code, str) or len(code) > MAX_DTYPE_LENGTH:
        raise CheckpointError("malformed pickle: a numpy dtype without a short code")
    return InertRecord("numpy.dtype", (code,))


def scalar(args: Args) -> object:
    """Return the number or text of a numpy scalar, or an InertRecord for one of another dtype."""
    kind, data = exactly(args, 2, 2)
    if not isinstance(kind, InertRecord) or kind.type_name != "numpy.dtype" or not kind.args:
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
        return InertRecord("numpy.multiarray.scalar", (kind, data))
    layout = mark + _SCALAR_FORMATS[code]
    if not isinstance(data, bytes) or len(data) != struct.calcsize(layout):
        raise CheckpointError("malformed pickle: a numpy scalar with too few or too many bytes")
    value: int | float | bool = struct.unpack(layout, data)[0]
    return value


def array(args: Args) -> InertRecord:
    """Return a record whose state will be shape, dtype and bytes of a numpy array."""
    cls = exactly(args, 1, 3)[0]
    if not isinstance(cls, InertName) or not cls.type_name.startswith("numpy."):
        raise CheckpointError("refused: an array of a class that is not of numpy")
    return InertRecord(cls.type_name)
