"""Records of plug-ins in the catalogue; tests/test_optional.py installs one for real."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from types import ModuleType

import msgspec
import pytest

import auricle
from auricle import optional
from auricle.catalogue import search
from auricle.catalogue.family import FAMILIES
from auricle.catalogue.record import Record
from auricle.catalogue.search import plug_in_names, plug_in_record, plug_in_records
from auricle.errors import DownloadError, PlugInError

RECORD = Record(
    name="my_tera",
    family="tera",
    size="tera_base",
    urls=("https://nowhere.invalid/my_tera.ckpt",),
    num_bytes=1_234_567,
)
Add = Callable[[str, object], None]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """A function that adds an entry point of the group of records, in a module of its own."""
    module = ModuleType("added_by_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    added: list[EntryPoint] = []
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda group: added if group == optional.RECORD_GROUP else [],
    )

    def add(name: str, value: object) -> None:
        attribute = f"object_{len(added)}"
        setattr(module, attribute, value)
        added.append(EntryPoint(name, f"{module.__name__}:{attribute}", optional.RECORD_GROUP))
        optional.plug_ins.cache_clear()

    optional.plug_ins.cache_clear()
    yield add
    optional.plug_ins.cache_clear()


def of_tera(record: Record) -> Record:
    """The record with the title and the paper of its family, as the catalogue has it."""
    tera = FAMILIES["tera"]
    return msgspec.structs.replace(record, title=tera.title, paper=tera.paper)


def test_a_record_of_a_family_of_the_library_is_in_the_catalogue(add: Add) -> None:
    add("my_tera", RECORD)
    assert search.find("my_tera") == of_tera(RECORD)
    assert "my_tera" in auricle.list_models(family="tera")
    assert auricle.list_models("my_*") == ["my_tera"]
    assert plug_in_records() == ([of_tera(RECORD)], [])
    assert list(plug_in_names()) == ["my_tera"]


def test_what_is_known_of_the_size_is_reported_where_the_file_is_missing(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("my_tera", RECORD)
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"my_tera \(1,234,567 bytes\) is not in the cache"):
        auricle.load("my_tera")


def test_every_alias_is_an_entry_point(add: Add) -> None:
    record = msgspec.structs.replace(RECORD, aliases=("mine",))
    add("my_tera", record)
    with pytest.raises(PlugInError, match="mine without an entry point"):
        plug_in_record("my_tera")
    add("mine", record)
    assert plug_in_record("mine") == of_tera(record)
    assert plug_in_record("my_tera") == of_tera(record)
    assert plug_in_records() == ([of_tera(record)], [])
    add("mine", record)
    with pytest.raises(PlugInError, match="several plug-ins are called mine"):
        plug_in_record("my_tera")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "my-tera"}, "expected letters, digits and underscores"),
        ({"name": "tera"}, "which a model of the library has"),
        ({"family": "baseline"}, "whose models are the library's own"),
        ({"sha256_prefix": "D0"}, "lower-case hex"),
        ({"config_url": "http://x/y.cfg"}, "neither https: nor hf:"),
        ({"urls": (), "embedded": True, "sha256": "0" * 64}, "needs a package of its own"),
    ],
)
def test_what_is_wrong_with_a_record_is_reported(
    add: Add, changes: dict[str, object], fault: str
) -> None:
    record = msgspec.structs.replace(RECORD, **changes)  # type: ignore[arg-type]
    add(record.name, record)
    _, (problem,) = plug_in_records()
    if record.name != "tera":
        with pytest.raises(PlugInError, match=fault):
            plug_in_record(record.name)
    else:
        assert "the library has a model tera of its own" in str(problem)
    assert "an unnamed package, entry point" in str(problem)
