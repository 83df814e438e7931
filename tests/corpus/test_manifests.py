from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.corpus import manifests
from auricle.corpus.manifests import (
    Manifest,
    PathChecker,
    Row,
    RowError,
    channel_number,
    list_fairseq,
    list_rows,
    number,
    positive,
)
from auricle.corpus.utterance import Problem, Scope
from auricle.errors import AudioError


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


def kind(path: Path | str, fence: Path | None = None) -> str | None:
    verdict = PathChecker().verdict(str(path), None if fence is None else str(fence))
    return None if verdict is None else verdict[0]


def test_files_folders_and_nothing(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav")
    assert kind(tmp_path / "in/a.wav") is None
    assert kind(tmp_path / "in/b.wav") == "missing"
    assert kind(tmp_path / "in") == "unreadable"
    assert kind(f"{tmp_path}/in/\0.wav") == "unreadable"
    assert kind(f"{tmp_path}/in/\udcff.wav") == "unreadable"


def test_a_fence(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav", "in/sub/b.wav", "inner/c.wav", "d.wav")
    fence = tmp_path / "in"
    assert kind(fence / "a.wav", fence) is None
    assert kind(fence / "sub/../a.wav", fence) is None
    assert kind(fence / "../d.wav", fence) == "escape"
    assert kind(fence / "../inner/c.wav", fence) == "escape"
    assert kind(tmp_path / "in/a.wav", Path("/")) is None


def test_links_count_by_where_they_lead(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav", "out/b.wav")
    fence = tmp_path / "in"
    (fence / "out.wav").symlink_to(tmp_path / "out/b.wav")
    (fence / "in.wav").symlink_to("a.wav")
    (fence / "folder").symlink_to(tmp_path / "out")
    (fence / "broken.wav").symlink_to("gone.wav")
    assert kind(fence / "out.wav", fence) == "escape"
    assert kind(fence / "out.wav") is None
    assert kind(fence / "in.wav", fence) is None
    assert kind(fence / "folder/b.wav", fence) == "escape"
    assert kind(fence / "broken.wav", fence) == "missing"


def test_a_fence_that_is_a_link_itself(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav")
    (tmp_path / "link").symlink_to("in")
    assert kind(tmp_path / "link/a.wav", tmp_path / "link") is None
    assert kind(tmp_path / "in/a.wav", tmp_path / "link") is None


def test_threads_look_at_each_path_once(
    tmp_path: Path, touch: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "CHUNK", 2)
    looked: list[str] = []
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: (looked.append(str(path)), lstat(path))[1])
    names = [str(path) for path in touch(*(f"{n}.wav" for n in range(7)))]
    checker = PathChecker()
    checker.check([(name, None) for name in [*names, *names, f"{tmp_path}/gone.wav"]])
    verdicts = [checker.verdict(name, None) for name in names]
    assert verdicts == [None] * 7
    assert checker.verdict(f"{tmp_path}/gone.wav", None) is not None
    files = [name for name in looked if name.endswith(".wav")]  # else of the folders above
    assert sorted(files) == sorted([*names, f"{tmp_path}/gone.wav"])
