from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from auricle.corpus.labels import (
    check_labels,
    check_segments,
    exceeds,
    read_segments,
    read_table,
)
from auricle.corpus.utterance import Segment
from auricle.errors import AudioError, AuricleError, MissingExtraError

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
        ("a.tsv", "1\t0\ta\n", "line 1: got a segment from 1 to 0 s"),
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


def test_times_that_differ_by_rounding_are_equal(tmp_path: Path) -> None:
    (tmp_path / "a.ctm").write_text("a 1 0.81 0.06 p30\na 1 0.87 0.20 p3\n")
    assert read_segments(tmp_path / "a.ctm") == segments((0.81, 0.87, "p30"), (0.87, 1.07, "p3"))
    (tmp_path / "a.tsv").write_text("-0.0004\t0.2\ta\n0.2004\t0.2\tb\n")
    assert read_segments(tmp_path / "a.tsv") == segments((0, 0.2, "a"), (0.2004, 0.2004, "b"))
    assert not exceeds(0.81 + 0.06, 0.87)
    assert not exceeds(0.871, 0.87)
    assert exceeds(0.8711, 0.87)


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


CTM = "talk1 1 0.1 0.3 a\ntalk2 1 0.2 0.3 b\ntalk1 1 0.6 0.2 c\n"
OF_TALK1 = segments((0.1, 0.4, "a"), (0.6, 0.8, "c"))
CALL = "call A 0.1 0.3 left\ncall B 0.2 0.3 right\n"


def test_a_ctm_of_many_gives_the_rows_of_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "all.ctm"
    path.write_text(CTM)
    assert read_segments(path, "talk1.wav") == OF_TALK1
    assert read_segments(path, "elsewhere.flac", tier="talk1") == OF_TALK1
    assert read_segments(path, "talk2.wav") == segments((0.2, 0.5, "b"))
    for wrong in ("talk3.wav", None):
        with pytest.raises(AudioError, match="holds the labels of 'talk1', 'talk2', and none of"):
            read_segments(path, wrong)
    with pytest.raises(AudioError, match="has no 'talk3', but 'talk1', 'talk2'"):
        read_segments(path, "talk1.wav", tier="talk3")
    assert read_segments(path.rename(tmp_path / "talk1.ctm")) == OF_TALK1
    check_labels(tmp_path / "talk1.ctm")


@pytest.mark.parametrize(
    ("text", "options", "label"),
    [
        (CALL, {"channel": 0}, "left"),
        (CALL, {"channel": 1}, "right"),
        (CALL, {"tier": "call B"}, "right"),
        (CALL.replace("A", "1").replace("B", "2"), {"channel": 1}, "right"),
        (CALL.replace("A", "0").replace("B", "1"), {"channel": 1}, "right"),
        ("call 1 0.1 0.3 left\n", {"channel": 1}, "left"),
    ],
)
def test_a_ctm_of_two_sides_gives_the_channel(
    tmp_path: Path, text: str, options: dict[str, Any], label: str
) -> None:
    path = tmp_path / "call.ctm"
    path.write_text(text)
    assert [one.label for one in read_segments(path, **options)] == [label]


@pytest.mark.parametrize("channel", [None, 2])
def test_a_ctm_of_two_sides_without_a_choice(tmp_path: Path, channel: int | None) -> None:
    path = tmp_path / "call.ctm"
    path.write_text(CALL)
    with pytest.raises(AudioError, match="labels of the channels 'A', 'B' of call: choose"):
        read_segments(path, channel=channel)


def textgrid(path: Path, *tiers: str) -> Path:
    """A TextGrid whose tiers hold their own name, those that begin with a dash nothing."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "1", "<exists>"]
    lines.append(str(len(tiers)))
    for name in tiers:
        text = "" if name.startswith("-") else name
        lines += ['"IntervalTier"', f'"{name}"', "0", "1", "1", "0", "1", f'"{text}"']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("tiers", "wanted", "expected"),
    [
        (("words", "phones"), None, "phones"),
        (("words", "phones"), "Words", "words"),
        (("Anna - words", "Anna - phones"), None, "Anna - phones"),
        (("Anna - words", "Anna - phones", "Ben - words", "Ben - phones"), "ben", "Ben - phones"),
        (("Anna - phones", "Ben - words", "Ben - phones"), "Anna - phones", "Anna - phones"),
        (("spk1_words", "spk2_words"), "spk2", "spk2_words"),
        (("Anna - words", "- phones"), None, "Anna - words"),
        (("ORT-MAU", "KAN-MAU", "MAU"), None, "MAU"),
        (("anything",), None, "anything"),
    ],
)
def test_a_tier_of_several(
    tmp_path: Path, tiers: tuple[str, ...], wanted: str | None, expected: str
) -> None:
    path = textgrid(tmp_path / "a.TextGrid", *tiers)
    assert [one.label for one in read_segments(path, tier=wanted)] == [expected]


@pytest.mark.parametrize(
    ("tiers", "wanted", "reason"),
    [
        (("Anna - phones", "Ben - phones"), None, "has the tiers 'Anna - phones', 'Ben - phones'"),
        (("Anna", "Ben"), None, "has the tiers 'Anna', 'Ben': choose one of them, or a speaker"),
        (("Anna - phones",), "Carl", "no tier or speaker 'Carl', but 'Anna - phones'"),
        (("- phones",), None, "its tiers are empty"),
    ],
)
def test_tiers_that_leave_a_choice(
    tmp_path: Path, tiers: tuple[str, ...], wanted: str | None, reason: str
) -> None:
    with pytest.raises(AudioError, match=reason):
        read_segments(textgrid(tmp_path / "a.TextGrid", *tiers), tier=wanted)


def test_a_tier_is_not_for_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("0\t1\ta\n")
    check_labels(path)
    with pytest.raises(AudioError, match="has no tiers"):
        read_segments(path, tier="phones")


def test_rows_are_read_by_column_and_quotes_mean_nothing(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text('path\ttext\na.wav\t"open\nb.wav\tthe "end"\n')
    assert read_table(table, ("path",)) == [
        {"path": "a.wav", "text": '"open'},
        {"path": "b.wav", "text": 'the "end"'},
    ]


def test_names_of_columns_without_case_and_blanks(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("\ufeffPath\t Word \na.wav\tx\n")
    assert read_table(table, ("path", "word")) == [{"path": "a.wav", "word": "x"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks the column"),
        (b"path\tword\n", "no rows"),
        (b"name\tword\na\tb\n", "lacks the column.* path; it has name, word"),
        (b"path\tword\na.wav\tx\nb.wav\n", "line 3: expected a value in path, word"),
        (b"path\tword\n\xff\tx\n", "is no table"),
    ],
)
def test_tables_that_are_not_whole_are_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    table = tmp_path / "t.tsv"
    table.write_bytes(content)
    with pytest.raises(AuricleError, match=message):
        read_table(table, ("path", "word"))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuricleError, match=r"cannot open .*none\.tsv.*check the path"):
        read_table(tmp_path / "none.tsv", ("path",))
