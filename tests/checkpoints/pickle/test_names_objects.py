"""Objects of classes that are not known become inert records, by whichever opcodes they come."""

from __future__ import annotations

import argparse
import codecs
import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import io
import pathlib
import pickle
import sys
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import pytest

from auricle.checkpoints.pickle.machine import PickleStream, read_pickle
from auricle.checkpoints.pickle.names import CheckpointNames
from auricle.checkpoints.pickle.unpickle import as_mapping
from auricle.checkpoints.pickle.values import InertName, InertRecord
from auricle.errors import CheckpointError

HOME = "research.data"
"""The module of the classes, which is not importable while they are read."""


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Meter:
    count = 3

    def __init__(self) -> None:
        self.value = 0.5
        self.history = [1, 2]


class Slots:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a, self.b = 1, "two"


class Both(Slots):
    pass


@dataclasses.dataclass
class Settings:
    dim: int = 4
    name: str = "x"


@dataclasses.dataclass(frozen=True)
class Frozen:
    dim: int = 4


class Keyworded:
    def __new__(cls, *, dim: int) -> Any:
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> Any:
        return (1,), {"dim": 2}


class Attributes(dict[Any, Any]):
    pass


class Ordered(collections.OrderedDict[Any, Any]):
    pass


class Several(list[Any]):
    pass


class Text(str):
    __slots__ = ()


class Pair(collections.namedtuple("Pair", "a b")):
    __slots__ = ()


class CustomError(Exception):
    pass


class Outer:
    class Inner:
        pass


class lowercase:  # noqa: N801 - as research code has it
    pass


class WithSetState:
    def __getstate__(self) -> Any:
        return [1, 2]

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("ran")


CLASSES = [
    *(Colour, Level, Meter, Slots, Both, Settings, Frozen, Keyworded, Attributes, Ordered, Several),
    *(Text, Pair, CustomError, Outer, Outer.Inner, lowercase, WithSetState),
]


@pytest.fixture(autouse=True)
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes lie in a module that is there while they are pickled, and that alone."""
    module = types.ModuleType(HOME)
    for cls in CLASSES:
        monkeypatch.setattr(cls, "__module__", HOME)
        if cls is not Outer.Inner:
            setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "research", types.ModuleType("research"))
    monkeypatch.setitem(sys.modules, HOME, module)


def read(content: bytes) -> Any:
    class NoStorages:
        def storage(self, ref: Any) -> Any:
            raise AssertionError("no tensor expected")

    names = CheckpointNames(NoStorages(), len(content))
    return read_pickle(PickleStream(io.BytesIO(content), len(content)), names)


def through(value: Any, protocol: int) -> Any:
    content = pickle.dumps({"object": value, "again": value, "after": 1}, protocol)
    codecs.lookup("raw-unicode-escape")  # what protocol 0 needs is imported late
    del sys.modules[HOME], sys.modules["research"]
    before = set(sys.modules)
    result = read(content)
    assert set(sys.modules) == before
    assert result["after"] == 1
    assert result["again"] is result["object"]
    return result["object"]


protocols = pytest.mark.parametrize("protocol", range(6))


@protocols
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Meter, "Meter"),
        (Settings, "Settings"),
        (Frozen, "Frozen"),
        (lowercase, "lowercase"),
        (WithSetState, "WithSetState"),
        (lambda: Colour.RED, "Colour"),
        (lambda: Text("abc"), "Text"),
        (lambda: Pair(1, 2), "Pair"),
        (lambda: CustomError("why"), "CustomError"),
    ],
)
def test_objects_become_records(make: Callable[[], Any], name: str, protocol: int) -> None:
    record = through(make(), protocol)
    assert type(record) is InertRecord
    assert record.type_name == f"{HOME}.{name}"


@protocols
def test_a_record_keeps_state_and_arguments(protocol: int) -> None:
    assert through([Meter(), Colour.RED], protocol)[0].state == {"value": 0.5, "history": [1, 2]}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_slots_keywords_and_nested_classes(protocol: int) -> None:
    both = Both()
    both.c = 3  # type: ignore[attr-defined]
    values = [Slots(), both, Keyworded.__new__(Keyworded, dim=1), Outer.Inner(), Outer.Inner]
    if protocol < 4:  # which calls a functools.partial
        del values[2]
        with pytest.raises(CheckpointError, match="functools.partial"):
            read(pickle.dumps(Keyworded.__new__(Keyworded, dim=1), protocol))
    slots, both, *keyworded, inner, cls = through(values, protocol)
    assert slots.state == (None, {"a": 1, "b": "two"})
    assert as_mapping(slots) == {"a": 1, "b": "two"}
    assert as_mapping(both) == {"a": 1, "b": "two", "c": 3}
    assert [record.args for record in keyworded] == [((1,), {"dim": 2})][: protocol // 4]
    assert inner.type_name == f"{HOME}.Outer.Inner"
    assert isinstance(cls, InertName)
    assert cls.type_name == f"{HOME}.Outer.Inner"


@protocols
def test_subclasses_of_dict_and_list_become_dicts_and_lists(protocol: int) -> None:
    attributes, ordered = Attributes(a=1), Ordered(b=[2])
    attributes.extra = 1  # type: ignore[attr-defined]
    value = [attributes, ordered, Several([1, 2]), collections.Counter("aab")]
    ours = through(value, protocol)
    assert ours == [{"a": 1}, {"b": [2]}, [1, 2], {"a": 2, "b": 1}]
    assert [type(item) for item in ours] == [dict, dict, list, dict]


@protocols
def test_a_dict_that_is_referred_to_again_is_one_object(protocol: int) -> None:
    attributes = Attributes(a=1)
    attributes["self"] = [attributes]
    ours = through([attributes, attributes], protocol)
    assert ours[0] is ours[1]
    assert ours[0]["a"] == 1


@protocols
@pytest.mark.parametrize(
    "value",
    [
        argparse.Namespace(a=1),
        types.SimpleNamespace(a=1),
        datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
        datetime.timedelta(seconds=3),
        decimal.Decimal("1.5"),
        uuid.UUID(int=5),
        collections.UserDict(a=1),
        slice(1, 2),
        range(3),
        ValueError("why"),
        pathlib.PureWindowsPath("C:/a"),
        pathlib.PosixPath("/a"),
        object(),
    ],
)
def test_objects_of_python_become_records(value: Any, protocol: int) -> None:
    assert type(through([value], protocol)[0]) is InertRecord


@protocols
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (list[int], "types.GenericAlias"),
        (datetime.datetime(2020, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")), "datetime.datetime"),
    ],
)
def test_types_and_zones_that_calls_make_become_records(
    value: Any, name: str, protocol: int
) -> None:
    assert through([value], protocol)[0].type_name.startswith(name)


def test_only_the_type_of_none_is_made_by_a_call() -> None:
    assert read(b"cbuiltins\ntype\n(NtR.").type_name == "builtins.NoneType"
    for args in (b"I1\nt", b"Va\n)}t", b"cevil\nEvil\nt"):
        with pytest.raises(CheckpointError):
            read(b"cbuiltins\ntype\n(" + args + b"R.")


@protocols
def test_a_deque_becomes_a_list(protocol: int) -> None:
    values = [collections.deque([1, 2]), collections.deque([3], maxlen=5)]
    assert through(values, protocol) == [[1, 2], [3]]


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize(
    ("cls", "text"),
    [("PosixPath", "a/b"), ("PurePath", "a/b"), ("WindowsPath", "a\\b"), ("Path", "a/b")],
)
def test_paths_of_every_python_are_text_in_a_configuration(
    module: str, cls: str, text: str
) -> None:
    path = read(f"c{module}\n{cls}\n(Va\nVb\ntR.".encode())
    assert as_mapping({"path": path}) == {"path": text}


def test_members_of_enumerations_as_python_3_11_pickles_them() -> None:
    content = b"c__builtin__\ngetattr\n(cresearch.data\nColour\nV%s\ntR."
    assert read(content % b"RED").type_name == "research.data.Colour.RED"
    assert read(content % b"red").type_name == "research.data.Colour.red"
    for attribute in (b"__init__", b"_value_", b"a.b"):
        with pytest.raises(CheckpointError, match="refused"):
            read(content % attribute)
    for target in (b"cos\nsystem\n", b"cevil\nrun\n", b"N", b"cresearch.data\nColour\n)\x81"):
        with pytest.raises(CheckpointError, match="refused"):
            read(b"c__builtin__\ngetattr\n(" + target + b"Vrun\ntR.")


def test_the_reconstructor_s_spelling_in_python_2() -> None:
    content = b"ccopy_reg\n_reconstructor\n(cfairseq.meters\nAverageMeter\nc__builtin__\nobject\nNtR(dVa\nI1\nsb."
    record = read(content)
    assert (record.type_name, record.state) == ("fairseq.meters.AverageMeter", {"a": 1})
    by_newobj = read(b"ccopy_reg\n__newobj__\n(ca\nB\nI7\ntR.")
    assert (by_newobj.type_name, by_newobj.args) == ("a.B", (7,))
    assert copyreg.__name__ == "copyreg"


@pytest.mark.parametrize(
    "content",
    [
        b"cevil\nrun\n)R.",  # a call
        b"cevil\nrun\n.",  # only a name
        b"cevil\nrun\n0N.",
        b"(ievil\nrun\n.",
        b"(cevil\nrun\no.",
        b"cevil\nEvil.run\n)R.",
        b"cevil\nrun.Evil\n)\x81.",
        b"ctorch.utils.tensorboard\nSummaryWriter\n(Vx\ntR.",
        b"cnumpy\nmemmap\n(Vx\ntR.",
        b"cnumpy\nmemmap\n(Vx\nt\x81.",
        b"ctyping\nAny\n)R.",
        b"clogging\nFileHandler\n(Vx\nt\x81.",
        b"ctempfile\nTemporaryDirectory\n)\x81.",
        b"cctypes\nCDLL\n(Vx\ntR.",
        b"ccode\nInteractiveInterpreter\n)R.",
        b"cthreading\nThread\n)\x81.",
        b"cfunctools\npartial\n(cevil\nEvil\ntR.",
        b"cdistutils.spawn\nSpawn\n)\x81.",
        b"ca b\nC\n)\x81.",
        b"c.a\nC\n)\x81.",
        b"cevil\nEvil\n)\x81cos\nsystem\nb.",
        b"cevil\nEvil\n)\x81)R.",  # calling an object
        b"cevil\nEvil\n}Vx\nI1\nsb.",  # attributes of a class
    ],
)
def test_what_would_call_or_change_something_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match="refused"):
        read(content)


def test_a_name_with_an_instance_is_a_class() -> None:
    record, cls = read(b"(cevil\nrun\n)\x81cevil\nrun\nl.")
    assert (record.type_name, cls.type_name) == ("evil.run", "evil.run")
