from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.audio.files import read_audio, read_header
from auricle.audio.recordings import AudioHeader
from auricle.errors import AudioError

RATE = 16_000


def noise(num_samples: int, num_channels: int = 1, seed: int = 0) -> np.ndarray:
    """(S, channels) float64 in (-0.9, 0.9)."""
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (num_samples, num_channels))


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.mark.parametrize("name", ["with space.wav", "Grüße 日本語.wav", "no_suffix", "a.mp3"])
def test_any_name_as_str_or_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, noise(64), format="WAV", subtype="FLOAT")
    expected = noise(64)[:, 0].astype(np.float32)
    np.testing.assert_array_equal(read_audio(path), expected)
    np.testing.assert_array_equal(read_audio(str(path)), expected)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_name_that_is_not_unicode(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.wav", noise(64))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    plain.rename(odd)
    assert len(read_audio(odd)) == 64


def make_missing(path: Path) -> None:
    pass


def make_folder(path: Path) -> None:
    path.mkdir()


def make_empty(path: Path) -> None:
    path.touch()


def make_text(path: Path) -> None:
    path.write_text("These are words, not sound.\n" * 50)


def make_no_samples(path: Path) -> None:
    write(path, noise(0))


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


BAD_FILES = [
    (make_missing, "cannot open .*a.wav: No such file.*check the path"),
    (make_folder, "a.wav is a folder.*pass the files in it"),
    (make_empty, r"a.wav is empty \(0 bytes\)"),
    (make_text, "cannot read .*a.wav as audio.*[Ff]ormat.*it is text; check its contents"),
    (make_no_samples, "a.wav holds no samples, only a header: leave it out, or copy it again"),
    pytest.param(
        make_fifo,
        "a.wav is a pipe",
        marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here"),
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD_FILES)
@pytest.mark.parametrize("read", [read_audio, read_header])
def test_bad_files(tmp_path: Path, make, message: str, read) -> None:
    make(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=message):
        read(tmp_path / "a.wav")


def test_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    path = write(tmp_path / "a.wav", noise(10))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match=r"cannot open .*a\.wav: Permission denied; check"):
        read_audio(path)


def test_raw_samples_and_impossible_names(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"12345678")
    with pytest.raises(AudioError, match=r"a\.raw: raw samples.*\(samples, sample_rate\)"):
        read_audio(tmp_path / "a.raw")
    with pytest.raises(AudioError, match="check the path"):
        read_audio("a\0b.wav")
    with pytest.raises(AudioError, match="check the path"):
        read_audio("a" * 5000)


def test_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(4410, 3), 44_100)
    header = read_header(path)
    assert header == AudioHeader(num_samples=4410, sample_rate=44_100, num_channels=3)
    assert header.seconds == 0.1
