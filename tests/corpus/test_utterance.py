from __future__ import annotations

from pathlib import Path

import pytest

from auricle.corpus.utterance import (
    Listing,
    Problem,
    Utterance,
    id_of_part,
    id_of_path,
    id_of_whole_path,
    id_reason,
    unreadable,
)


def test_a_problem_as_text_says_where_it_is() -> None:
    assert (
        str(Problem(kind="missing", manifest="l.csv", line=3, reason="gone"))
        == "l.csv, line 3: gone"
    )
    assert str(Problem(kind="missing", manifest="a.wav", reason="gone")) == "a.wav: gone"


def test_listings_are_appended() -> None:
    listing = Listing(utterances=[Utterance(id="a", source="a.wav")])
    problem = Problem(kind="escape", manifest="l.csv", reason="out")
    other = Listing(
        utterances=[Utterance(id="b", source="b.wav")], problems=[problem], known_seconds={"b": 2.0}
    )
    listing.extend(other)
    assert [utterance.id for utterance in listing.utterances] == ["a", "b"]
    assert listing.problems == [problem]
    assert listing.known_seconds == {"b": 2.0}


def test_the_systems_own_words_come_first() -> None:
    error = FileNotFoundError(2, "No such file or directory")
    assert str(unreadable("l.csv", error)).startswith(
        "cannot read l.csv: No such file or directory;"
    )


@pytest.mark.parametrize("name", ["a", "a/b", "ملف/ä b", "1", "a..b", "...", "x" * 240, "日" * 80])
def test_names_that_are_ids(name: str) -> None:
    assert id_reason(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("/a", "absolute"),
        ("a/../b", "part '..'"),
        ("..", "part '..'"),
        ("./a", "part '.'"),
        ("a//b", "part ''"),
        ("a/", "part ''"),
        ("a\nb", "control character '\\n'"),
        ("a\0", "control character"),
        ("ä\x1b[2J", "control character"),
        ("a\u2028b", "control character"),
        ("a\udcff", "not UTF-8"),
        ("x" * 241, "241 bytes"),
        ("日" * 81, "243 bytes"),
    ],
)
def test_names_that_are_none(name: str, reason: str) -> None:
    assert reason in (id_reason(name) or "")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/c/s/a.wav", "s/a"),
        ("/c/a.1.mp3", "a.1"),
        ("/c/s/../a.wav", "a"),
        ("/d/s/a.wav", "s/a"),
        ("/e/s/a.wav", "a"),
        ("/cc/a.wav", "a"),
        ("/c/v.1/a", "v.1/a"),
    ],
)
def test_ids_of_paths(path: str, expected: str) -> None:
    assert id_of_path(path, ("/c", "/d")) == expected


def test_ids_of_parts_sort_by_time() -> None:
    assert id_of_part("a", 1.5, 12.3456) == "a-000001500-000012346"
    assert id_of_part("a", 2, None) == "a-000002000"


def test_whole_paths_tell_corpora_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "tr" / "0001.wav")
    assert id_of_whole_path(path, "tr") == "tr/0001"
    assert id_of_whole_path(path, str(tmp_path / "tr")) == path.removesuffix(".wav").lstrip("/")
    (tmp_path / "te").mkdir()
    monkeypatch.chdir(tmp_path / "te")
    assert id_of_whole_path(path, "../tr") == path.removesuffix(".wav").lstrip("/")
