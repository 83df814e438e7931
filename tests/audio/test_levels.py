from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auricle.audio import notes
from auricle.audio.files import read_audio
from auricle.audio.waveforms import as_waveforms

RATE = 16_000


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_num_said", notes.Counter())


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, RATE)


@pytest.mark.parametrize(
    ("channels", "is_odd"),
    [
        ([1.0, -1.0], True),
        ([1.0, -0.9], True),
        ([1.0, -0.4], False),
        ([1.0, 0.0], False),
        ([1.0, 1.0, -1.0, -1.0], True),
    ],
)
def test_channels_that_cancel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, channels: list[float], is_odd: bool
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise()[:, None] * channels, RATE)
    read_audio(path)
    expected = f"{path}: its {len(channels)} channels cancel each other"
    assert [message[: len(expected)] for message in caplog.messages] == [expected] * is_odd
    caplog.clear()
    read_audio(path, channel=0)
    assert not caplog.messages


def test_unrelated_channels_do_not_cancel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    array = np.stack([noise(seed) for seed in range(40)], 1)
    soundfile.write(tmp_path / "a.wav", array, RATE)
    read_audio(tmp_path / "a.wav")
    assert not caplog.messages


def test_float_samples_in_the_range_of_integers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loud = (noise() * 32768).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", loud, RATE, subtype="FLOAT")
    read = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(read, loud)
    assert f"a.wav: float samples reach {np.abs(loud).max():g}" in caplog.messages[0]
    soundfile.write(tmp_path / "over.wav", noise() * 20, RATE, subtype="FLOAT")
    caplog.clear()
    as_waveforms([loud, torch.randn(RATE), (2 * loud, RATE)], sample_rate=RATE, min_samples=1)
    assert caplog.messages == [
        f"waveform 0: float samples reach {np.abs(loud).max():g}, but full scale is 1: divide them "
        "by 32768 if they are 16-bit integers (the first of 2 such files)"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_silent_file_is_said_but_a_silent_part_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    read_audio(tmp_path / "a.wav", start_seconds=0.5)
    assert not caplog.messages
    read_audio(tmp_path / "a.wav")
    assert caplog.messages == [f"{tmp_path / 'a.wav'} is silent: all of its samples are 0"]
