"""Formats of plug-ins come after the library's; tests/test_plug_ins.py installs one for real."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import msgspec
import pytest

from auricle.catalogue.family import FAMILIES, Family
from auricle.checkpoints import plug_in_formats
from auricle.checkpoints.formats import FORMATS, Format
from auricle.checkpoints.plug_in_formats import formats_for
from auricle.errors import PlugInError
from auricle.plug_ins import PlugIn

OWN = Format("own", lambda content: content["own"], lambda content: ("mine",))


def family(formats: object, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A family of a plug-in whose converter brings `formats`, and is the only one there is."""
    plug_in = PlugIn(EntryPoint("mine", "package:FAMILY", "auricle.families"))
    mine = msgspec.structs.replace(
        FAMILIES["tera"], stem="mine", plug_in=plug_in, converter_module_name="package.converter"
    )
    monkeypatch.setattr(Family, "converter", lambda _: SimpleNamespace(FORMATS=formats))
    monkeypatch.setattr(plug_in_formats, "plug_in_families", lambda: ([mine], []))
    monkeypatch.setattr(plug_in_formats, "find_family", lambda _: mine)
    return mine


def test_plug_ins_are_asked_only_when_their_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plug_in_formats, "plug_in_families", lambda: pytest.fail("was asked"))
    assert tuple(formats_for("tera")) == FORMATS
    formats = formats_for(None)
    assert tuple(next(formats) for _ in FORMATS) == FORMATS


def test_the_order_depends_on_whether_the_family_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    family((OWN,), monkeypatch)
    library = [layout.name for layout in FORMATS]
    assert [layout.name for layout in formats_for("mine")] == ["own", *library]
    assert [layout.name for layout in formats_for(None)] == [*library, "own"]


def test_a_format_that_raises_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    family([OWN], monkeypatch)
    own = next(formats_for("mine"))
    assert own.matches({"own": True})
    assert not caplog.text
    assert not own.matches({})
    assert "entry point mine" in caplog.text
    assert "KeyError: 'own'" in caplog.text


def test_formats_of_another_type_are_the_plug_ins_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    family(OWN, monkeypatch)
    with pytest.raises(PlugInError, match="package.converter.FORMATS must be a tuple of Format"):
        next(formats_for("mine"))
    assert tuple(formats_for(None)) == FORMATS
    assert "FORMATS must be a tuple of Format" in caplog.text
