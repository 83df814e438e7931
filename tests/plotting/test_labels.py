from __future__ import annotations

import sys
from pathlib import Path

import pytest

from auricle.errors import AudioError, MissingExtraError
from auricle.plotting.labels import check_segments, read_segments
from auricle.plotting.utterance import Segment

TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1
            text = "so"
    item [2]:
        class = "IntervalTier"
        name = "{tier}"
        xmin = 0
        xmax = 1
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = "s"
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = ""
        intervals [3]:
            xmin = 0.5
            xmax = 1
            text = "oʊ"
"""


def segments(*triples: tuple[float, float, str]) -> tuple[Segment, ...]:
    return tuple(Segment(start=a, end=b, label=text) for a, b, text in triples)


@pytest.mark.parametrize("header", ["", "start\tend\tlabel\n", "\ufeff"])
def test_tab_separated_lines(tmp_path: Path, header: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(f"{header}0.0\t0.5\tS\n\n0.5\t1\toʊ h\n", encoding="utf-8")
    assert read_segments(path) == segments((0, 0.5, "S"), (0.5, 1, "oʊ h"))


def test_a_ctm_tells_durations(tmp_path: Path) -> None:
    path = tmp_path / "a.CTM"
    path.write_text(";; made by hand\nutt 1 0.5 0.25 S 0.99\nutt 1 0.75 0.5 OW\n")
    assert read_segments(path) == segments((0.5, 0.75, "S"), (0.75, 1.25, "OW"))


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("Phones", segments((0, 0.25, "s"), (0.5, 1, "oʊ"))), ("other", segments((0, 1, "so")))],
)
def test_a_textgrid_gives_its_phones_or_its_first_tier(
    tmp_path: Path, tier: str, expected: tuple[Segment, ...]
) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(TEXTGRID.format(tier=tier), encoding="utf-8")
    assert read_segments(path) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "", "holds no labels"),
        ("a.tsv", "0\t1\n", "line 1: got 2 fields"),
        ("a.tsv", "0 1 a\n", "line 1: got blanks between the fields; expected .* with tabs"),
        ("a.tsv", "0\t1\ta\nx\t2\tb\n", "line 2: could not convert"),
        ("a.tsv", "1\t0\ta\n", "line 1: got a stretch from 1 to 0 s"),
        ("a.tsv", "0\tnan\ta\n", "from 0 to nan s"),
        ("a.tsv", "-1\t0\ta\n", "from -1 to 0 s"),
        ("a.ctm", "a 1 0 1\n", "got 4 fields of 5"),
        ("a.textgrid", "hello", "is no TextGrid"),
    ],
)
def test_wrong_files_are_named_with_the_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(AudioError, match=message) as caught:
        read_segments(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_labels_of_something_else_are_refused() -> None:
    check_segments(segments((0, 5.9, "a")), 5.0)  # a little beyond, as rounded ends are
    check_segments((), 5.0)
    with pytest.raises(AudioError, match="the labels reach 85 s, but the recording ends at 5 s"):
        check_segments(segments((80, 85, "a"), (0, 1, "b")), 5.0)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.tsv", "a.TextGrid"):
        with pytest.raises(AudioError, match="cannot open"):
            read_segments(tmp_path / name)
    (tmp_path / "b.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AudioError, match="no text in UTF-8"):
        read_segments(tmp_path / "b.tsv")
    monkeypatch.setitem(sys.modules, "praatio", None)
    with pytest.raises(MissingExtraError, match="pip install praatio"):
        read_segments(tmp_path / "a.TextGrid")
