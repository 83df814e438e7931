from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.extraction.inputs.records import Problem, Scope
from auricle.extraction.inputs.rows import (
    Manifest,
    Row,
    RowError,
    channel_number,
    list_rows,
    number,
    positive,
)


def manifest(folder: Path, has_absolute_paths: bool = True) -> Manifest:
    return Manifest(
        path=f"{folder}/l.csv", folder=str(folder), has_absolute_paths=has_absolute_paths
    )


def test_rows_become_utterances_in_their_order(
    tmp_path: Path, touch: Callable[..., list[Path]]
) -> None:
    touch("s/a.wav", "b.wav")
    rows = [
        Row(line=2, path="s/a.wav", known_seconds=3.0),
        Row(line=3, path="b.wav", id="own", start=1.0, seconds=2.0, channel=1),
        Row(line=4, path="b.wav", start=0.0),
    ]
    listing = list_rows(rows, manifest(tmp_path), Scope(channel=5))
    assert [(u.id, u.start, u.seconds, u.channel) for u in listing.utterances] == [
        ("s/a", 0.0, None, 5),
        ("own", 1.0, 2.0, 1),
        ("b-000000000", 0.0, None, 5),
    ]
    assert listing.utterances[0].source == str(tmp_path / "s/a.wav")
    assert listing.known_seconds == {"s/a": 3.0}


def test_problems_keep_their_lines(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav", "out.wav")
    earlier = Problem(kind="unreadable", manifest="l.csv", line=1, reason="no")
    rows: list[Row | Problem] = [
        earlier,
        Row(line=2, path="gone.wav", id="x"),
        Row(line=3, path="../out.wav"),
        Row(line=4, path="a.wav", id="../a"),
        Row(line=5, path="a.wav"),
    ]
    listing = list_rows(rows, manifest(tmp_path / "in"), Scope())
    assert [u.id for u in listing.utterances] == ["a"]
    assert [(p.kind, p.line, p.id) for p in listing.problems] == [
        ("unreadable", 1, ""),
        ("missing", 2, "x"),
        ("escape", 3, ""),
        ("unreadable", 4, "../a"),
    ]
    assert listing.problems[1].source == str(tmp_path / "in/gone.wav")


def test_where_absolute_paths_may_lie(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav", "out/b.wav")
    rows = [
        Row(line=1, path=str(tmp_path / "out/b.wav")),
        Row(line=2, path=str(tmp_path / "in/a.wav")),
    ]

    def kinds(has_absolute_paths: bool, root: Path | None = None) -> list[str]:
        listing = list_rows(rows, manifest(tmp_path / "in", has_absolute_paths), Scope(root=root))
        return [p.kind for p in listing.problems] + [u.id for u in listing.utterances]

    assert kinds(True) == ["b", "a"]
    assert kinds(False) == ["escape", "a"]
    assert kinds(True, tmp_path / "in") == ["escape", "a"]
    assert kinds(False, tmp_path) == ["out/b", "a"]


def test_a_root_lets_paths_leave_the_manifests_folder(
    tmp_path: Path, touch: Callable[..., list[Path]]
) -> None:
    touch("lists/x", "wav/a.wav")
    rows = [Row(line=1, path="../wav/a.wav")]
    listing = list_rows(rows, manifest(tmp_path / "lists", False), Scope(root=tmp_path))
    assert [u.id for u in listing.utterances] == ["wav/a"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("", None), ("1.5", 1.5), (2, 2.0), ("0", 0.0), (0.5, 0.5)],
)
def test_numbers(value: object, expected: float | None) -> None:
    assert number(value, "the start") == expected


@pytest.mark.parametrize("value", ["x", -1, "nan", float("inf"), True, [], "1,5", "1_0"])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(RowError, match="the start is .*, expected 0 or more seconds"):
        number(value, "the start")


def test_a_length_is_more_than_nothing() -> None:
    assert positive("1", "the duration") == 1.0
    with pytest.raises(RowError, match="more than 0 seconds"):
        positive(0.0, "the duration")


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("", None), ("1", 1), (0, 0), (2.0, 2)]
)
def test_channels(value: object, expected: int | None) -> None:
    assert channel_number(value) == expected


@pytest.mark.parametrize("value", ["A", -1, 0.5, True, "-1", "²"])
def test_what_is_no_channel(value: object) -> None:
    with pytest.raises(RowError, match="the channel is"):
        channel_number(value)
