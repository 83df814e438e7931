"""An inert interpreter of pickle streams: it decodes opcodes and never calls what they name."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterable
from typing import IO, BinaryIO, Protocol, cast

from auricle.checkpoints.pickle.values import InertName, InertRecord, set_item
from auricle.errors import CheckpointError

MAX_OPCODES = 1_000_000
"""Opcodes in one stream: 30 to a tensor, so far above any model; bounds time and memory."""
MAX_INT_BITS = 1024
"""Bits of one integer; the longest one that `torch.save` writes has 80."""
MAX_LINE_BYTES = 65_536
"""Bytes of one text argument (protocol 0); bounds the decimal integers that Python parses."""
MAX_MEMO_INDEX = 2**32
MAX_DEPTH = 256
"""Containers inside one another; an omegaconf section takes three."""
NEWEST_PROTOCOL = 5

_MALFORMED = (
    ValueError,  # of pickletools: a short, unknown or badly encoded argument
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    struct.error,
    DeprecationWarning,  # an unknown escape in a protocol 0 string, where warnings are errors
)


class Constructor(Protocol):
    """Decides which names a stream may hold and builds the values that they stand for."""

    def admit(self, module: str, qualname: str) -> InertName:
        """Return the name's stand-in, or raise CheckpointError if it is not on the list."""

    def construct(self, name: InertName, args: tuple[object, ...]) -> object:
        """Return what calling the name with these arguments stands for."""

    def instance(self, name: InertName, args: tuple[object, ...]) -> object:
        """Return what an instance of the class of that name stands for."""

    def is_tensor(self, value: object) -> bool:
        """Return whether a value is a tensor, whose attributes do not count."""

    def close(self) -> None:
        """Raise CheckpointError if a name that was admitted turned out to be no class."""

    def persistent(self, identifier: object) -> object:
        """Return what an object kept outside the stream (a torch storage) stands for."""


class PickleStream:
    """Pickles one after the other in a file, of which at most `max_bytes` are read.

    A longer argument, or a line beyond `MAX_LINE_BYTES`, comes back short and reads as malformed.
    """

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._num_left = max_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes, or what is left of them."""
        wanted = self._num_left if size is None or size < 0 else min(size, self._num_left)
        return self._counted(self._file.read(wanted))

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line, or its beginning."""
        return self._counted(self._file.readline(min(MAX_LINE_BYTES, self._num_left)))

    def tell(self) -> int:
        """Return the position in the file."""
        return self._file.tell()

    def _counted(self, content: bytes) -> bytes:
        self._num_left -= len(content)
        return content


def read_pickle(
    stream: PickleStream,
    constructor: Constructor,
    follow: Callable[[InertRecord], object] | None = None,
) -> object:
    """Return the value of the next pickle in the stream and leave the stream just after it.

    Protocols 0 to 5, without out-of-band buffers and without the extension registry. Sets
    become lists, frozensets tuples, bytearrays bytes, and objects that a stream puts items into,
    of subclasses of dict and list, become dicts and lists. `follow` is called with each record that
    has got its state, and gives the value that takes its place: it may read on in the stream.
    Raises CheckpointError for a malformed stream and for a name that the constructor does not
    admit.
    """
    machine = _Machine(constructor, follow)
    num_opcodes = 0
    try:
        for opcode, arg, _ in pickletools.genops(cast(IO[bytes], stream)):
            num_opcodes += 1
            if num_opcodes > MAX_OPCODES:
                raise CheckpointError(f"a pickle of more than {MAX_OPCODES} opcodes")
            handler = _HANDLERS.get(opcode.name)
            if handler is None:
                raise CheckpointError(f"pickle opcode {opcode.name} is not supported")
            handler(machine, arg)
    except CheckpointError:
        raise
    except _MALFORMED as error:
        raise CheckpointError(
            f"malformed pickle near byte {stream.tell()} ({str(error)[:120]})"
        ) from error
    result = machine.result()
    constructor.close()
    _check_depth(result)
    return result


def _check_depth(value: object) -> None:
    """Refuse nesting that would end the recursion of whoever walks the value later."""
    level, seen = [value], {id(value)}
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in level:
            for child in _children(item):
                if id(child) not in seen:
                    seen.add(id(child))
                    below.append(child)
        if not below:
            return
        level = below
    raise CheckpointError(f"containers nested more than {MAX_DEPTH} deep")


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, InertRecord):
        return (value.args, value.state)
    return value if isinstance(value, (list, tuple)) else ()


class _Machine:
    """The stack, the marked stacks below it and the memo of one running pickle."""

    def __init__(
        self, constructor: Constructor, follow: Callable[[InertRecord], object] | None = None
    ) -> None:
        self.constructor = constructor
        self.follow = follow
        self.stack: list[object] = []
        self.below_marks: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.record_places: dict[int, int] = {}

    def push(self, value: object) -> None:
        if type(value) is int and value.bit_length() > MAX_INT_BITS:
            raise CheckpointError(f"an integer of {value.bit_length()} bits in the pickle")
        self.stack.append(value)

    def pop(self) -> object:
        if not self.stack:
            raise CheckpointError("malformed pickle: its stack ran empty")
        return self.stack.pop()

    def top(self) -> object:
        if not self.stack:
            raise CheckpointError("malformed pickle: its stack is empty")
        return self.stack[-1]

    def mark(self) -> None:
        self.below_marks.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[object]:
        if not self.below_marks:
            raise CheckpointError("malformed pickle: no mark on its stack")
        items = self.stack
        self.stack = self.below_marks.pop()
        return items

    def drop_to_mark(self) -> None:
        self.pop_to_mark()

    def pop_many(self, count: int) -> tuple[object, ...]:
        items = [self.pop() for _ in range(count)]
        return tuple(reversed(items))

    def pop_or_unmark(self) -> None:
        if self.stack or not self.below_marks:
            self.pop()
        else:
            self.pop_to_mark()

    def put(self, index: object) -> None:
        if not isinstance(index, int) or not 0 <= index < MAX_MEMO_INDEX:
            raise CheckpointError("malformed pickle: memo index out of range")
        self.memo[index] = self.top()
        if type(self.memo[index]) is InertRecord:
            self.record_places[id(self.memo[index])] = index

    def get(self, index: object) -> None:
        if not isinstance(index, int) or index not in self.memo:
            raise CheckpointError("malformed pickle: it uses a memo entry that it never set")
        self.push(self.memo[index])

    def replace_record(self, container: list[object] | dict[object, object]) -> None:
        """Put a container on top, and into the memo, for an object that has items after all."""
        record = self.stack[-1]
        index = self.record_places.get(id(record))
        if index is not None and self.memo.get(index) is record:
            self.memo[index] = container
        self.stack[-1] = container

    def extend_top_list(self, items: list[object]) -> None:
        target = self.top()
        if type(target) is InertRecord:
            self.replace_record(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise CheckpointError(f"refused: would append to {_describe(target)}")

    def update_top_dict(self, items: list[object]) -> None:
        target = self.top()
        if type(target) is InertRecord:
            self.replace_record(_fill_dict({}, items))
        elif isinstance(target, dict):
            _fill_dict(target, items)
        else:
            raise CheckpointError(f"refused: would set items of {_describe(target)}")

    def global_name(self, module: object, qualname: object) -> None:
        if not isinstance(module, str) or not isinstance(qualname, str):
            raise CheckpointError("malformed pickle: a global without a name")
        self.push(self.constructor.admit(module, qualname))

    def stack_global(self) -> None:
        module, qualname = self.pop_many(2)
        self.global_name(module, qualname)

    def split_global(self, arg: object) -> None:
        module, _, qualname = str(arg).partition(" ")
        self.global_name(module, qualname)

    def reduce(self) -> None:
        target, args = self.pop_many(2)
        name, args = _called(target, args)
        self.push(self.constructor.construct(name, args))

    def new(self) -> None:
        target, args = self.pop_many(2)
        name, args = _called(target, args)
        self.push(self.constructor.instance(name, args))

    def new_with_keywords(self) -> None:
        target, args, keywords = self.pop_many(3)
        name, args = _called(target, args)
        if not isinstance(keywords, dict):
            raise CheckpointError(f"malformed pickle: keywords of {name.type_name} not a dict")
        # as a pair, for a copy of the arguments would cost more than the opcode
        self.push(self.constructor.instance(name, (args, keywords) if keywords else args))

    def old_style_instance(self, arg: object) -> None:
        args = tuple(self.pop_to_mark())
        self.split_global(arg)
        name, args = _called(self.pop(), args)
        self.push(self.constructor.construct(name, args))

    def old_style_instance_from_stack(self) -> None:
        items = self.pop_to_mark()
        if not items:
            raise CheckpointError("malformed pickle: OBJ without a class")
        name, args = _called(items[0], tuple(items[1:]))
        self.push(self.constructor.construct(name, args))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, (dict, list)) or self.constructor.is_tensor(target):
            return  # attributes of a subclass, such as the `_metadata` of a state dict
        if type(target) is not InertRecord or target.state is not None:
            raise CheckpointError(f"refused: would set the state of {_describe(target)}")
        target.state = state
        if self.follow is not None:
            self.stack[-1] = self.follow(target)

    def persistent(self, identifier: object) -> None:
        self.push(self.constructor.persistent(identifier))

    def check_protocol(self, arg: object) -> None:
        if not isinstance(arg, int) or arg > NEWEST_PROTOCOL:
            raise CheckpointError(f"pickle protocol {arg}; expected 0 to {NEWEST_PROTOCOL}")

    def result(self) -> object:
        if self.below_marks or len(self.stack) != 1:
            raise CheckpointError("malformed pickle: it does not end with one value")
        return self.stack[0]


def _fill_dict(target: dict[object, object], items: list[object]) -> dict[object, object]:
    if len(items) % 2:
        raise CheckpointError("malformed pickle: a dict key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        set_item(target, key, value)
    return target


def _called(target: object, args: object) -> tuple[InertName, tuple[object, ...]]:
    if not isinstance(target, InertName):
        raise CheckpointError(f"refused: would call {_describe(target)}")
    if not isinstance(args, tuple):
        raise CheckpointError(f"malformed pickle: arguments of {target.type_name} not a tuple")
    return target, args


def _describe(value: object) -> str:
    return repr(value.type_name) if isinstance(value, InertRecord) else f"a {type(value).__name__}"


def _refuse_extension(machine: _Machine, arg: object) -> None:
    raise CheckpointError("refused: the pickle extension registry may name any function")


_Handler = Callable[[_Machine, object], None]

_LITERALS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8"
)

_HANDLERS: dict[str, _Handler] = {
    **{name: lambda m, arg: m.push(arg) for name in _LITERALS.split()},
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _refuse_extension),
    **{name: lambda m, arg: m.put(arg) for name in ("PUT", "BINPUT", "LONG_BINPUT")},
    **{name: lambda m, arg: m.get(arg) for name in ("GET", "BINGET", "LONG_BINGET")},
    "BYTEARRAY8": lambda m, arg: m.push(bytes(arg) if isinstance(arg, bytearray) else arg),
    "PROTO": lambda m, arg: m.check_protocol(arg),
    "FRAME": lambda m, arg: None,  # only a hint for buffering
    "STOP": lambda m, arg: None,  # `genops` ends there
    "NONE": lambda m, arg: m.push(None),
    "NEWTRUE": lambda m, arg: m.push(True),
    "NEWFALSE": lambda m, arg: m.push(False),
    "MARK": lambda m, arg: m.mark(),
    "POP": lambda m, arg: m.pop_or_unmark(),
    "POP_MARK": lambda m, arg: m.drop_to_mark(),
    "DUP": lambda m, arg: m.push(m.top()),
    "MEMOIZE": lambda m, arg: m.put(len(m.memo)),
    "EMPTY_LIST": lambda m, arg: m.push([]),
    "EMPTY_SET": lambda m, arg: m.push([]),
    "EMPTY_TUPLE": lambda m, arg: m.push(()),
    "EMPTY_DICT": lambda m, arg: m.push({}),
    "LIST": lambda m, arg: m.push(m.pop_to_mark()),
    "TUPLE": lambda m, arg: m.push(tuple(m.pop_to_mark())),
    "FROZENSET": lambda m, arg: m.push(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, arg: m.push(m.pop_many(1)),
    "TUPLE2": lambda m, arg: m.push(m.pop_many(2)),
    "TUPLE3": lambda m, arg: m.push(m.pop_many(3)),
    "DICT": lambda m, arg: m.push(_fill_dict({}, m.pop_to_mark())),
    "APPEND": lambda m, arg: m.extend_top_list([m.pop()]),
    "APPENDS": lambda m, arg: m.extend_top_list(m.pop_to_mark()),
    "ADDITEMS": lambda m, arg: m.extend_top_list(m.pop_to_mark()),
    "SETITEM": lambda m, arg: m.update_top_dict(list(m.pop_many(2))),
    "SETITEMS": lambda m, arg: m.update_top_dict(m.pop_to_mark()),
    "GLOBAL": lambda m, arg: m.split_global(arg),
    "STACK_GLOBAL": lambda m, arg: m.stack_global(),
    "REDUCE": lambda m, arg: m.reduce(),
    "NEWOBJ": lambda m, arg: m.new(),
    "NEWOBJ_EX": lambda m, arg: m.new_with_keywords(),
    "INST": lambda m, arg: m.old_style_instance(arg),
    "OBJ": lambda m, arg: m.old_style_instance_from_stack(),
    "BUILD": lambda m, arg: m.build(),
    "PERSID": lambda m, arg: m.persistent(arg),
    "BINPERSID": lambda m, arg: m.persistent(m.pop()),
}
"""Effect of each opcode (pickletools documents them); an opcode that is missing is refused."""
