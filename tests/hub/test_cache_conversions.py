"""Notes of conversions: which one may be read for what is wanted."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from auricle.files.atomic import file_sha256, pin
from auricle.hub import cache as cache_module
from auricle.hub.cache import (
    Conversion,
    Wanted,
    find_conversion,
    is_as_stamped,
    notes,
    read_note,
    stamp,
    write_note,
)

WANTED = Wanted(label="tera", places=("https://host/a.ckpt",), family="tera")


@pytest.fixture
def source(cache: Path) -> Path:
    path = cache / "checkpoints" / "tera.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"original")
    return path


@pytest.fixture
def conversion(source: Path) -> Conversion:
    WANTED.path.parent.mkdir()
    WANTED.path.write_bytes(b"converted")
    conversion = Conversion(label="tera", sources=(stamp(source),), file=stamp(WANTED.path))
    write_note(conversion)
    return conversion


def test_what_is_untouched_is_found_without_being_read(
    conversion: Conversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "file_sha256", None)
    assert find_conversion(WANTED) == conversion
    assert list(notes()) == [conversion]


@pytest.mark.parametrize(
    "other",
    [
        {"label": "other"},
        {"places": ("https://host/b.ckpt",)},
        {"family": None},
        {"config_sha256": "ab"},
        {"sha256": "ab" * 32},
        {"without_adapters": True},
    ],
)
def test_what_another_wants_is_not_found(conversion: Conversion, other: dict[str, str]) -> None:
    wanted = dataclasses.replace(WANTED, **other)
    assert find_conversion(wanted) is None
    if "sha256" not in other:
        assert wanted.path != WANTED.path


def test_a_digest_that_fits_is_enough(conversion: Conversion) -> None:
    digest = conversion.sources[0].sha256
    assert find_conversion(dataclasses.replace(WANTED, sha256=digest)) == conversion
    assert find_conversion(dataclasses.replace(WANTED, sha256=digest[:8])) == conversion


def test_another_converter_made_something_else(
    conversion: Conversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "CONVERTER_VERSION", cache_module.CONVERTER_VERSION + 1)
    assert find_conversion(WANTED) is None
    write_note(dataclasses.replace(conversion, file=stamp(conversion.file.full_path)))
    assert find_conversion(WANTED) is None


@pytest.mark.parametrize("which", ["source", "converted"])
@pytest.mark.parametrize("content", [b"ORIGINAL!", b"x"], ids=["same size", "another size"])
def test_a_file_that_changed_makes_it_void(
    which: str, content: bytes, source: Path, conversion: Conversion
) -> None:
    path = source if which == "source" else WANTED.path
    path.write_bytes(content[: path.stat().st_size])
    os.utime(path, ns=(1, 1))
    assert find_conversion(WANTED) is None


def test_a_file_that_was_only_copied_is_read_once(
    source: Path, conversion: Conversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (source, WANTED.path):
        os.utime(path, ns=(1, 1))
    found = find_conversion(WANTED)
    assert found is not None
    assert found.key == conversion.key
    assert is_as_stamped(found.file)
    monkeypatch.setattr(cache_module, "file_sha256", None)
    assert find_conversion(WANTED) == found


def test_an_original_that_is_gone_is_not_missed_unless_its_note_says_otherwise(
    source: Path, conversion: Conversion
) -> None:
    pin(source, file_sha256(source))
    source.unlink()
    assert find_conversion(WANTED) == conversion
    pin(source, "ab" * 32)
    assert find_conversion(WANTED) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"label": "tera"}', b"\xff"])
def test_a_damaged_note_is_no_note(conversion: Conversion, content: bytes) -> None:
    conversion.note_path.write_bytes(content)
    assert read_note(conversion.note_path) is None
    assert find_conversion(WANTED) is None
    assert list(notes()) == []


def test_a_note_about_another_file_is_not_believed(conversion: Conversion, source: Path) -> None:
    note = dataclasses.replace(conversion, file=stamp(source))
    conversion.note_path.write_bytes(cache_module.msgspec.json.encode(note))
    assert find_conversion(WANTED) is None


def test_a_conversion_that_is_gone(conversion: Conversion) -> None:
    WANTED.path.unlink()
    assert find_conversion(WANTED) is None


def test_labels_make_names_that_stay_in_the_folder(cache: Path) -> None:
    for label in ("../../etc/passwd", "hf://a/b@c/d", "", "x" * 500, ".hidden"):
        path = Wanted(label=label).path
        assert path.parent == cache / "converted"
        assert len(path.name) < 80
        assert not path.name.startswith(".")
