from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.errors import AudioError
from auricle.extraction.inputs.folders import expand_braces, expand_files, list_audio
from auricle.extraction.inputs.records import Scope

Touch = Callable[..., list[Path]]


def listed(text: Path | str) -> dict[str, str]:
    return {u.id: u.source for u in list_audio(str(text), Scope()).utterances}


def test_a_folder_keeps_its_tree_and_its_audio_alone(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "sub/b.FLAC", "sub/deep/c.1.mp3", "notes.txt", ".d.wav", ".e/f.wav")
    assert listed(tmp_path) == {
        "a": str(tmp_path / "a.wav"),
        "sub/b": str(tmp_path / "sub/b.FLAC"),
        "sub/deep/c.1": str(tmp_path / "sub/deep/c.1.mp3"),
    }


def test_a_file_is_taken_whatever_its_suffix(tmp_path: Path, touch: Touch) -> None:
    touch("sub/take.audio")
    assert listed(tmp_path / "sub/take.audio") == {"take": str(tmp_path / "sub/take.audio")}


def test_a_pattern_keeps_the_tree_below_its_fixed_part(tmp_path: Path, touch: Touch) -> None:
    touch("x/one/a.wav", "x/two/a.wav", "x/two/a.txt", "y/a.wav")
    expected = {"one/a": str(tmp_path / "x/one/a.wav"), "two/a": str(tmp_path / "x/two/a.wav")}
    assert listed(tmp_path / "x" / "*" / "a.*") == expected
    assert listed(tmp_path / "x" / "**" / "*.wav") == expected
    assert listed(tmp_path / "x" / "*") == expected


def test_sources_are_absolute(
    tmp_path: Path, touch: Touch, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("a.wav", "sub/b.wav")
    monkeypatch.chdir(tmp_path)
    assert listed("*.wav") == {"a": str(tmp_path / "a.wav")}
    assert listed("**/*.wav") == {
        "a": str(tmp_path / "a.wav"),
        "sub/b": str(tmp_path / "sub/b.wav"),
    }
    assert listed("a.wav") == {"a": str(tmp_path / "a.wav")}


def test_a_name_with_brackets_that_exists_is_no_pattern(tmp_path: Path, touch: Touch) -> None:
    touch("take[1].wav", "take1.wav", "{a,b}.wav")
    assert list(listed(tmp_path / "take[1].wav")) == ["take[1]"]
    assert list(listed(tmp_path / "{a,b}.wav")) == ["{a,b}"]


def test_unicode_names_are_ids_and_the_channel_is_passed_on(tmp_path: Path, touch: Touch) -> None:
    touch("تسجيل/öß é.wav")
    listing = list_audio(str(tmp_path), Scope(channel=1))
    assert [(u.id, u.channel) for u in listing.utterances] == [("تسجيل/öß é", 1)]


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    listing = list_audio(str(tmp_path / "gone.wav"), Scope())
    assert listing.utterances == []
    assert [(p.kind, p.id) for p in listing.problems] == [("missing", "gone")]


def test_links_leave_a_folder_but_not_a_root(tmp_path: Path, touch: Touch) -> None:
    touch("in/a.wav", "out.wav")
    (tmp_path / "in/b.wav").symlink_to(tmp_path / "out.wav")
    assert list(listed(tmp_path / "in")) == ["a", "b"]
    listing = list_audio(str(tmp_path / "in"), Scope(root=tmp_path / "in"))
    assert [u.id for u in listing.utterances] == ["a"]
    assert [(p.kind, p.id) for p in listing.problems] == [("escape", "b")]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes UTF-8 alone")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")).touch()
    (tmp_path / "a\nb.wav").touch()
    listing = list_audio(str(tmp_path), Scope())
    assert sorted(p.reason.partition(":")[0] for p in listing.problems) == [
        f"the id {'a' + chr(10) + 'b'!r} holds the control character '\\n'",
        f"the name {str(tmp_path)!r}"[:-1] + "/\\udcff.wav' is not UTF-8",
    ]


def test_nothing_found_says_what_was_looked_for(tmp_path: Path, touch: Touch) -> None:
    touch("notes.txt")
    with pytest.raises(AudioError, match=r"holds no audio files; looked for .*\.flac .*\.wav"):
        listed(tmp_path)
    for pattern in ("*.txt", "**/*.flac", "[ab]*"):
        with pytest.raises(AudioError, match="no audio file matches"):
            listed(tmp_path / pattern)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x-{008..011}.tar", ["x-008.tar", "x-009.tar", "x-010.tar", "x-011.tar"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{x}.tar", ["{x}.tar"]),
        ("x.tar", ["x.tar"]),
        ("{9..10}", ["9", "10"]),
    ],
)
def test_braces(text: str, expected: list[str]) -> None:
    assert expand_braces(text) == expected


@pytest.mark.parametrize("text", ["{2..1}", "{0..99999999}", "{0..9999}{0..9999}"])
def test_braces_that_are_slips(text: str) -> None:
    with pytest.raises(AudioError, match="upwards|more than"):
        expand_braces(text)


def test_files_of_paths_patterns_and_folders(tmp_path: Path, touch: Touch) -> None:
    touch("b.tar", "s/a.tar", "s/c.csv")
    assert expand_files(str(tmp_path), "*.tar") == [f"{tmp_path}/b.tar", f"{tmp_path}/s/a.tar"]
    assert expand_files(str(tmp_path)) == [str(tmp_path)]
    assert expand_files(f"{tmp_path}/*/*.csv") == [f"{tmp_path}/s/c.csv"]
    assert expand_files("gone.tar") == ["gone.tar"]
    with pytest.raises(AudioError, match="no file matches"):
        expand_files(f"{tmp_path}/*.csv")
