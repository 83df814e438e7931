from __future__ import annotations

from pathlib import Path

import pytest

from auricle.cli.inputs import plan_jobs
from auricle.errors import AudioError, OutputError

OUT = Path("out")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def plan(*inputs: Path | str) -> dict[str, Path]:
    """Output, relative to the folder and in POSIX form -> source."""
    jobs = plan_jobs([str(item) for item in inputs], OUT, ".npy")
    return {job.output.relative_to(OUT).as_posix(): job.source for job in jobs}


def test_a_folder_keeps_its_tree_and_its_audio_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "sub/b.FLAC", "sub/deep/c.1.mp3", "notes.txt", ".d.wav", ".e/f.wav")
    assert plan(tmp_path) == {
        "a.npy": tmp_path / "a.wav",
        "sub/b.npy": tmp_path / "sub/b.FLAC",
        "sub/deep/c.1.npy": tmp_path / "sub/deep/c.1.mp3",
    }


def test_a_file_goes_to_the_folder_itself_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "sub/take.audio")
    assert plan(tmp_path / "sub/take.audio") == {"take.npy": tmp_path / "sub/take.audio"}


def test_a_pattern_keeps_the_tree_below_its_fixed_part(tmp_path: Path) -> None:
    touch(tmp_path, "x/one/a.wav", "x/two/a.wav", "x/two/a.txt", "y/a.wav")
    expected = {"one/a.npy": tmp_path / "x/one/a.wav", "two/a.npy": tmp_path / "x/two/a.wav"}
    assert plan(tmp_path / "x" / "*" / "a.*") == expected
    assert plan(tmp_path / "x" / "**" / "*.wav") == expected
    assert plan(tmp_path / "x" / "*") == expected


def test_a_relative_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.wav", "sub/b.wav")
    monkeypatch.chdir(tmp_path)
    assert plan("*.wav") == {"a.npy": Path("a.wav")}
    assert plan("**/*.wav") == {"a.npy": Path("a.wav"), "sub/b.npy": Path("sub/b.wav")}


def test_a_name_with_brackets_that_exists_is_no_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "take[1].wav", "take1.wav")
    assert plan(tmp_path / "take[1].wav") == {"take[1].npy": tmp_path / "take[1].wav"}


def test_a_file_named_twice_is_one_job(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    assert len(plan(tmp_path, tmp_path / "a.wav", tmp_path / "*.wav")) == 1


def test_a_missing_file_is_left_to_its_reader(tmp_path: Path) -> None:
    assert plan(tmp_path / "gone.wav") == {"gone.npy": tmp_path / "gone.wav"}


@pytest.mark.parametrize(("first", "second"), [("x/a.wav", "x/a.flac"), ("x/a.wav", "y/a.wav")])
def test_two_files_for_one_output_are_refused(tmp_path: Path, first: str, second: str) -> None:
    touch(tmp_path, first, second)
    with pytest.raises(OutputError, match="would both be written") as refusal:
        plan(tmp_path / first, tmp_path / second)
    assert str(tmp_path / first) in str(refusal.value)
    assert str(tmp_path / second) in str(refusal.value)
    assert str(OUT / "a.npy") in str(refusal.value)


def test_a_folder_without_audio_says_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(AudioError, match=r"holds no audio files; looked for .*\.flac .*\.wav"):
        plan(tmp_path)


@pytest.mark.parametrize("pattern", ["*.txt", "**/*.flac", "[ab]*"])
def test_a_pattern_without_audio_is_refused(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(AudioError, match="no audio file matches"):
        plan(tmp_path / pattern)


def test_empty_text_is_not_the_current_folder() -> None:
    with pytest.raises(AudioError, match="empty text"):
        plan_jobs([""], OUT, ".npy")
