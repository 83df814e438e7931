"""The online features against NumPy and SciPy, and these against librosa."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.frontends import LogMelConfig
from auricle.frontends.log_mel import _cosine_transform

PLAIN = LogMelConfig(cmvn=False)


def mel_basis(config: LogMelConfig, num_mels: int) -> NDArray[np.float64]:
    """(mels, bins): triangles of height 1 between neighbours that are equally far apart in HTK's mel."""
    nyquist = config.sample_rate / 2
    highest = 2595 * np.log10(1 + nyquist / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, num_mels + 2) / 2595) - 1)
    bins = np.linspace(0, nyquist, config.fft_samples // 2 + 1)
    return np.stack([np.interp(bins, edges[k : k + 3], [0.0, 1.0, 0.0]) for k in range(num_mels)])


def power_spectrum(padded: NDArray[np.float64], config: LogMelConfig) -> NDArray[np.float64]:
    """(bins, frames) of a periodic Hann window in the middle of each transform."""
    before = (config.fft_samples - config.window_samples) // 2
    window = np.zeros(config.fft_samples)
    phase = 2 * np.pi * np.arange(config.window_samples) / config.window_samples
    window[before : before + config.window_samples] = 0.5 - 0.5 * np.cos(phase)
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.fft_samples)
    power: NDArray[np.float64] = np.abs(np.fft.rfft(frames[:: config.hop_samples] * window)) ** 2
    return power.T


def reference(waveform: Tensor, config: LogMelConfig) -> Tensor:
    """(samples,) -> (frames, dims) before deltas and normalisation."""
    samples = waveform.double().numpy()
    if config.target_level_db is not None:
        level = 10 ** (config.target_level_db / 20)
        samples = samples * level / (np.sqrt(np.mean(samples**2)) + 1e-10)
    power = power_spectrum(np.pad(samples, config.fft_samples // 2, mode="reflect"), config)
    if config.kind == "mfcc":
        bands = np.log(mel_basis(config, 128) @ power + 1e-6)
        power = scipy.fft.dct(bands, axis=0, norm="ortho")[: config.num_mfcc]
    elif config.kind == "mel":
        power = mel_basis(config, config.num_mels) @ power
    return torch.from_numpy(np.log(power + 1e-10) if config.log else power).T


@pytest.mark.whole  # librosa compiles for a minute
@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        LogMelConfig(cmvn=False, window_ms=19.9375, hop_ms=12.5),
        LogMelConfig(cmvn=False, num_freqs=513, window_ms=50, hop_ms=12.5),
    ],
)
@pytest.mark.parametrize("num_mels", [40, 80, 128])
def test_the_reference_is_librosa_s(speech: Tensor, config: LogMelConfig, num_mels: int) -> None:
    import librosa

    # librosa's own centring mirrors a tail that may be shorter than the padding.
    padded = np.pad(speech.double().numpy(), config.fft_samples // 2, mode="reflect")
    spectrum = librosa.stft(
        padded,
        n_fft=config.fft_samples,
        hop_length=config.hop_samples,
        win_length=config.window_samples,
        center=False,
        dtype=np.complex128,
    )
    np.testing.assert_allclose(power_spectrum(padded, config), np.abs(spectrum) ** 2, atol=1e-9)
    with warnings.catch_warnings():
        # 128 bands on 201 bins leave some bands without a bin, as in the original.
        warnings.filterwarnings("ignore", message="Empty filters", category=UserWarning)
        basis = librosa.filters.mel(
            sr=config.sample_rate,
            n_fft=config.fft_samples,
            n_mels=num_mels,
            htk=True,
            norm=None,
            dtype=np.float64,
        )
    np.testing.assert_allclose(mel_basis(config, num_mels), basis, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_mels": 40},
        {"log": False},
        {"kind": "linear"},
        {"kind": "linear", "num_freqs": 257},
        {"kind": "mfcc", "log": False},
        {"kind": "mfcc", "log": False, "num_mfcc": 20},
        {"window_ms": 20.0},
        {"window_ms": 19.9375},
        {"hop_ms": 12.5},
        {"target_level_db": -30.0},
        {"target_level_db": None},
        {"num_freqs": 513, "window_ms": 50, "hop_ms": 12.5},
    ],
)
@pytest.mark.parametrize("num_samples", [9600, 7041])
def test_matches_the_reference(speech: Tensor, options: dict[str, Any], num_samples: int) -> None:
    config = LogMelConfig(cmvn=False, **options)
    waveform = speech[:num_samples]
    expected = reference(waveform, config)
    actual = config.features(waveform.unsqueeze(0), [num_samples])[0]
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float32
    error, scale = (actual - expected).abs(), expected.abs().max()
    assert error.median() <= 1e-6 * scale
    # Float32 has few digits left where a bin is nearly empty.
    assert error.max() <= 1e-3 * scale
    if config != PLAIN:
        default = PLAIN.features(waveform.unsqueeze(0), [num_samples])[0]
        assert default.shape != actual.shape or (default - actual).abs().max() > 0.1


def test_silence_lies_at_the_offset() -> None:
    features = PLAIN.features(torch.zeros(1, 400), [400])
    assert torch.equal(features, torch.full((1, 3, 80), -23.02585))


def test_the_level_of_the_recording_does_not_matter(speech: Tensor) -> None:
    loud = PLAIN.features(speech.unsqueeze(0), [9600])
    quiet = PLAIN.features(speech.unsqueeze(0) / 1024, [9600])
    torch.testing.assert_close(loud, quiet, rtol=0, atol=1e-3)


def test_cosine_transform_is_orthonormal() -> None:
    basis = _cosine_transform(128)
    torch.testing.assert_close(basis.T @ basis, torch.eye(128), rtol=0, atol=1e-5)


def test_normalisation_comes_last(speech: Tensor) -> None:
    config = LogMelConfig(delta_order=1)
    features = config.features(speech.unsqueeze(0), [9600])[0]
    assert features.shape == (61, 160)
    torch.testing.assert_close(features.mean(0), torch.zeros(160), rtol=0, atol=1e-5)
    torch.testing.assert_close(features.std(0), torch.ones(160), rtol=0, atol=1e-5)


def test_deltas_regress_over_five_frames(speech: Tensor) -> None:
    features = LogMelConfig(delta_order=1, cmvn=False).features(speech.unsqueeze(0), [9600])[0]
    still, slope = features[:, :80].double(), features[:, 80:].double()
    expected = (still[11] - still[9] + 2 * (still[12] - still[8])) / 10
    torch.testing.assert_close(slope[10], expected, rtol=1e-6, atol=1e-6)


def test_lengths_are_arithmetic() -> None:
    assert LogMelConfig().min_samples == 201
    assert PLAIN.min_samples == 201
    assert LogMelConfig(hop_ms=50).min_samples == 800
    assert LogMelConfig(hop_ms=50, cmvn=False).min_samples == 201
    assert LogMelConfig(num_freqs=513).min_samples == 513
    # The original rounds to the nearest sample: 16000 * 10.05 / 1000 is 160.8.
    config = LogMelConfig(hop_ms=10.05, window_ms=20.06, kind="linear", delta_order=1)
    assert (config.hop_samples, config.window_samples, config.dim) == (161, 321, 402)
    assert LogMelConfig(kind="mfcc", log=False, delta_order=2).dim == 39
    assert LogMelConfig().num_frames(24479) == 153
    assert LogMelConfig().num_frames(torch.tensor([201, 319, 320])).tolist() == [2, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 0}, "sample_rate must be at least 1 Hz, but is 0"),
        ({"kind": "complx"}, "kind must be one of mel, linear, mfcc, but is 'complx'"),
        ({"num_mels": 0}, "num_mels must be at least 1"),
        ({"num_freqs": 1}, "num_freqs must be at least 2"),
        ({"num_mfcc": 129, "kind": "mfcc", "log": False}, "num_mfcc must be in"),
        ({"window_ms": 25.1}, "at most the 400 of the transform, but is 25.1"),
        ({"window_ms": 0.0}, "window_ms must be at least one sample"),
        ({"hop_ms": 0.0}, "hop_ms must be at least one sample"),
        ({"target_level_db": float("nan")}, "target_level_db must be finite"),
        ({"kind": "mfcc"}, "log must be False when kind is 'mfcc', but is True"),
        ({"delta_order": -1}, "delta_order must be at least 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMelConfig(**options)
