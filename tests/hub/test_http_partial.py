"""Partial files: continued only from where they came."""

from __future__ import annotations

from pathlib import Path

import pytest

from auricle.hub.http import Origin, PartialFile

ORIGIN = Origin(url="https://host/f", validator='"a"', num_bytes=10)


@pytest.fixture
def part(tmp_path: Path) -> PartialFile:
    return PartialFile(tmp_path / "f.ckpt")


def test_what_was_begun_is_remembered(part: PartialFile, tmp_path: Path) -> None:
    part.restart(ORIGIN)
    assert part.origin(ORIGIN.url) is None, "nothing came yet"
    part.path.write_bytes(b"12345")
    again = PartialFile(tmp_path / "f.ckpt")
    assert again.num_bytes == 5
    assert again.origin(ORIGIN.url) == ORIGIN
    assert again.origin("https://elsewhere/f") is None
    again.restart(None)
    assert again.num_bytes == 0
    again.path.write_bytes(b"12345")
    assert again.origin(ORIGIN.url) is None, "the old note does not speak for the new content"


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"url": 1}', b"\xff"])
def test_a_damaged_note_means_to_start_over(note: bytes, part: PartialFile) -> None:
    part.restart(ORIGIN)
    part.path.write_bytes(b"12345")
    part.path.with_name("f.ckpt.part.json").write_bytes(note)
    assert part.origin(ORIGIN.url) is None


def test_promotion_leaves_the_whole_file_alone(part: PartialFile, tmp_path: Path) -> None:
    part.restart(ORIGIN)
    part.path.write_bytes(b"1234567890")
    part.promote(tmp_path / "f.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["f.ckpt"]
    assert (tmp_path / "f.ckpt").read_bytes() == b"1234567890"


def test_discarding_leaves_nothing(part: PartialFile, tmp_path: Path) -> None:
    part.restart(ORIGIN)
    part.discard()
    part.discard()
    assert list(tmp_path.iterdir()) == []
