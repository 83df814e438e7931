"""Log mel features of NeMo and of SpeechBrain, against their formulas in NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.frontends import NemoMelConfig, SpeechBrainMelConfig

Array = NDArray[np.float64]


def windows(samples: Array, config: Any, shape: Array, count: int) -> Array:
    """Power (T, bins) of frames of which k has its centre at sample k hops."""
    half = config.fft_samples // 2
    padded = np.pad(samples, (half, half + config.hop_samples))
    spare = config.fft_samples - config.window_samples
    shape = np.pad(shape, (spare // 2, spare - spare // 2))
    rows = [
        padded[k * config.hop_samples : k * config.hop_samples + config.fft_samples] * shape
        for k in range(count)
    ]
    return np.abs(np.fft.rfft(np.stack(rows))) ** 2


def slaney(mel: Array) -> Array:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel_of(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * float(np.log(hz / 1000) / np.log(6.4))


def nemo(wav: Tensor, config: NemoMelConfig) -> Array:
    x = wav.double().numpy()
    emphasised = np.concatenate([x[:1], x[1:] - config.preemphasis * x[:-1]])
    make = {"hann": np.hanning, "hamming": np.hamming}[config.window]
    count = len(x) // config.hop_samples
    power = windows(emphasised, config, make(config.window_samples), count)
    low, high = (mel_of(hz) for hz in (config.low_hz, config.high_hz))
    edges = slaney(np.linspace(low, high, config.num_mels + 2))
    bins = np.arange(config.fft_samples // 2 + 1) * 16_000 / config.fft_samples
    filters = [
        np.maximum(0, np.minimum((bins - a) / (b - a), (c - bins) / (c - b))) * 2 / (c - a)
        for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    y = np.log(power @ np.stack(filters).T + 2.0**-24)
    if config.normalize == "band":
        return (y - y.mean(0)) / (y.std(0, ddof=1) + 1e-5)
    return (y - y.mean()) / (y.std(ddof=1) + 1e-5) if config.normalize == "all" else y


def speechbrain(wav: Tensor, config: SpeechBrainMelConfig) -> Array:
    x = wav.double().numpy()
    shape = np.hamming(config.window_samples + 1)[:-1]
    power = windows(x, config, shape, 1 + len(x) // config.hop_samples)
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (config.low_hz, config.high_hz))
    edges = 700 * (10 ** (np.linspace(low, high, config.num_mels + 2) / 2595) - 1)
    bins = np.linspace(0, 8000, config.fft_samples // 2 + 1)
    filters = [
        np.maximum(0, 1 - np.abs(bins - b) / (b - a)) for a, b in itertools.pairwise(edges[:-1])
    ]
    y = 10 * np.log10(np.maximum(power @ np.stack(filters).T, 1e-10))
    y = np.maximum(y, y.max() - 80)
    return (y - y.mean(0)) / np.maximum(y.std(0), 1e-10) if config.cmvn else y


CONFIGS: dict[str, tuple[Any, Any]] = {
    "nemo": (NemoMelConfig(), nemo),
    "nemo_all": (NemoMelConfig(num_mels=128, normalize="all", preemphasis=0.0), nemo),
    "nemo_plain": (
        NemoMelConfig(
            num_mels=40, normalize="none", window="hamming", fft_samples=400, window_samples=320,
            hop_samples=200, low_hz=50.0, high_hz=7600.0,
        ),
        nemo,
    ),
    "speechbrain": (SpeechBrainMelConfig(), speechbrain),
    "speechbrain_plain": (
        SpeechBrainMelConfig(
            num_mels=23, cmvn=False, fft_samples=512, window_samples=320, hop_samples=200,
            low_hz=20.0, high_hz=7000.0,
        ),
        speechbrain,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_features_are_those_of_the_formulas(name: str, speech: Tensor) -> None:
    config, reference = CONFIGS[name]
    for num_samples in (9_600, 7_999, 1_601):
        features = config.features(speech[None, :num_samples], [num_samples])[0]
        expected = reference(speech[:num_samples], config)
        assert features.shape == expected.shape
        assert features.shape == (config.num_frames(num_samples), config.dim)
        assert np.abs(features.numpy() - expected).max() < 2e-3 * expected.std()


def test_counts_of_frames_and_the_shortest_waveforms() -> None:
    config = NemoMelConfig()
    assert [config.num_frames(n) for n in (159, 160, 319, 320)] == [0, 1, 1, 2]
    assert config.min_samples == 320
    assert NemoMelConfig(normalize="none").min_samples == 160
    assert NemoMelConfig(window_samples=100).num_frames(320) == 2
    assert [SpeechBrainMelConfig().num_frames(n) for n in (1, 159, 160)] == [1, 1, 2]
    assert SpeechBrainMelConfig().min_samples == 160
    assert SpeechBrainMelConfig(cmvn=False).min_samples == 1


def test_windows_reach_as_far_as_frames_see(speech: Tensor) -> None:
    for config in (
        NemoMelConfig(normalize="none"),
        NemoMelConfig(normalize="none", window="hamming"),
        SpeechBrainMelConfig(cmvn=False),
    ):
        geometry = config.geometry
        first = 5 * geometry.hop_samples + geometry.start_samples
        before = config.features(speech[None], [9_600])[0, 5]
        for place, changes in ((first - 1, False), (first + geometry.window_samples, False),
                               (first + 1, True), (first + geometry.window_samples - 2, True)):  # fmt: skip
            changed = speech.clone()
            changed[place] += 0.5
            after = config.features(changed[None], [9_600])[0, 5]
            assert torch.equal(before, after) != changes


def test_impossible_options_are_refused() -> None:
    bad: list[tuple[Any, dict[str, Any]]] = [
        (NemoMelConfig, {"window_samples": 600}),
        (NemoMelConfig, {"fft_samples": 511}),
        (SpeechBrainMelConfig, {"num_mels": 0}),
        (SpeechBrainMelConfig, {"hop_samples": 0}),
    ]
    for kind, options in bad:
        with pytest.raises(ValueError, match="transform even"):
            kind(**options)
    for kind, options in ((NemoMelConfig, {"high_hz": 9_000.0}), (SpeechBrainMelConfig, {"low_hz": 8_000.0})):  # fmt: skip
        with pytest.raises(ValueError, match="low_hz"):
            kind(**options)
