from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.audio import ffmpeg
from auricle.audio.inputs import audio_suffixes, list_audio_files
from auricle.errors import AudioError

RATE = 16_000


def noise(num_samples: int, num_channels: int = 1, seed: int = 0) -> np.ndarray:
    """(S, channels) float64 in (-0.9, 0.9)."""
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (num_samples, num_channels))


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def test_list_audio_files(tmp_path: Path) -> None:
    names = [
        "b.wav",
        "z.wav",
        "m.mp3",
        "k.ogg",
        "x.aiff",
        "a/c.FLAC",
        "a/b/d.opus",
        "a/.hidden.wav",
        ".git/e.wav",
        "notes.txt",
        "wav",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    left_out = {"a/.hidden.wav", ".git/e.wav", "notes.txt", "wav"}
    found = list_audio_files(tmp_path)
    assert found == [tmp_path / name for name in sorted(set(names) - left_out)]
    assert list_audio_files(str(tmp_path / "folder.wav")) == []


def test_list_audio_files_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"cannot list .*absent: No such file"):
        list_audio_files(tmp_path / "absent")
    (tmp_path / "a.wav").touch()
    with pytest.raises(AudioError, match=r"cannot list .*Not a directory; pass a folder"):
        list_audio_files(tmp_path / "a.wav")


@pytest.fixture
def names(tmp_path: Path) -> None:
    for name in ("a.wav", "a.mp4", "b.m4a", "c/d.M4A", "c/e.trk", "f.txt", "g.TextGrid", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()


@pytest.mark.usefixtures("names")
def test_what_is_passed_over_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ffmpeg, "is_installed", lambda: False)
    assert list_audio_files(tmp_path) == [tmp_path / "a.wav"]
    assert sorted(caplog.messages) == [
        f"{tmp_path}: passed over 1 files (1 .mp4): audio of the same name lies beside these",
        f"{tmp_path}: passed over 1 files (1 .trk): these are no audio that we know",
        f"{tmp_path}: passed over 2 files (2 .m4a): libsndfile does not read these; "
        "install ffmpeg (apt-get install ffmpeg, conda install ffmpeg) or torchcodec",
    ]


@pytest.mark.usefixtures("names")
def test_what_ffmpeg_reads_is_found_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "is_installed", lambda: True)
    found = [path.relative_to(tmp_path).as_posix() for path in list_audio_files(tmp_path)]
    assert found == ["a.wav", "b.m4a", "c/d.M4A"]
    assert ".m4a" in audio_suffixes()


def test_archives_beside_audio_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.wav", "b.tar", "c/d.TAR"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_audio_files(tmp_path) == [tmp_path / "a.wav"]
    assert caplog.messages == [
        f"{tmp_path}: passed over 2 files (2 .tar): archives beside audio are read only where "
        "they are named"
    ]
