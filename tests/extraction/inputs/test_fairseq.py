from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.errors import AudioError
from auricle.extraction.inputs.fairseq import list_fairseq
from auricle.extraction.inputs.records import Scope

Touch = Callable[..., list[Path]]


def write(folder: Path, text: str) -> str:
    path = folder / "train.tsv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_paths_below_the_folder_of_the_first_line(tmp_path: Path, touch: Touch) -> None:
    touch("lists/x", "wav/s/a.flac", "wav/ä.wav")
    text = f"{tmp_path}/wav\ns/a.flac\t16000\r\nä.wav\t5\n\n"
    listing = list_fairseq(write(tmp_path / "lists", text), Scope(channel=0))
    assert [(u.id, u.source, u.seconds, u.channel) for u in listing.utterances] == [
        ("s/a", str(tmp_path / "wav/s/a.flac"), None, 0),
        ("ä", str(tmp_path / "wav/ä.wav"), None, 0),
    ]
    assert listing.problems == []
    assert listing.known_seconds == {}


def test_a_relative_folder_lies_below_the_manifests(tmp_path: Path, touch: Touch) -> None:
    touch("wav/a.wav")
    listing = list_fairseq(write(tmp_path, "wav\na.wav\t5\n"), Scope())
    assert listing.utterances[0].source == str(tmp_path / "wav/a.wav")


def test_rows_that_do_not_hold(tmp_path: Path, touch: Touch) -> None:
    touch("wav/a.wav", "out.wav")
    (tmp_path / "wav/link.wav").symlink_to(tmp_path / "out.wav")
    rows = f"a.wav\na.wav\tlong\ngone.wav\t5\n../out.wav\t5\nlink.wav\t5\n{tmp_path}/out.wav\t5\na.wav\t5\n"
    listing = list_fairseq(write(tmp_path, f"{tmp_path}/wav\n{rows}"), Scope())
    assert [(p.line, p.kind) for p in listing.problems] == [
        (2, "unreadable"),
        (3, "unreadable"),
        (4, "missing"),
        (5, "escape"),
        (6, "escape"),
        (7, "escape"),
    ]
    assert [u.id for u in listing.utterances] == ["a"]


@pytest.mark.parametrize("first", ["", "gone", "paths\tsamples"])
def test_a_first_line_that_is_no_folder(tmp_path: Path, first: str) -> None:
    with pytest.raises(AudioError, match="expected the folder"):
        list_fairseq(write(tmp_path, f"{first}\na.wav\t5\n"), Scope())


def test_a_manifest_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot read .*No such file"):
        list_fairseq(str(tmp_path / "gone.tsv"), Scope())
