"""The front end of w2v-BERT 2.0: two frames side by side, in float64, normalised by variances."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError
from auricle.frontends import FbankConfig
from auricle.frontends.fbank import _padded_features
from auricle.models.spectral_conformer import W2vBertConfig

CONFIG = W2vBertConfig().features
CONSTANT_BAND = 4e-3
"""Most of a band that never changes: the mean of equal floats, less them, over sqrt(1e-7)."""

OPTIONS = ("sample_scale", "double_precision", "epsilon_in_variance")


def speech(num_samples: int) -> Tensor:
    samples, _ = soundfile.read(sample_paths()[0], dtype="float32", frames=num_samples)
    return torch.from_numpy(samples)


def reference(wav: Tensor) -> np.ndarray:
    """`SeamlessM4TFeatureExtractor` by its formulas, for one waveform."""
    samples = wav.double().numpy() * 2**15
    window = np.hanning(400) ** 0.85
    mels = np.linspace(*(1127 * np.log(1 + hz / 700) for hz in (20.0, 8000.0)), 82)
    bins = 1127 * np.log(1 + np.arange(257) * 16_000 / 512 / 700)
    filters = np.stack(
        [
            np.maximum(0, np.minimum((bins - left) / (mid - left), (right - bins) / (right - mid)))
            for left, mid, right in zip(mels, mels[1:], mels[2:], strict=False)
        ]
    )
    rows = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400]
        frame = frame - frame.mean()
        emphasised = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        spectrum = np.fft.rfft(emphasised * window, 512).astype(np.complex64)
        power = np.abs(spectrum, dtype=np.float64) ** 2
        rows.append(np.log(np.maximum(filters @ power, 1.192092955078125e-07)))
    # Time comes last in memory, as there: the mean of equal floats may be another one by the order.
    x = np.stack(rows, axis=1).astype(np.float32).T
    x = (x - x.mean(0)) / np.sqrt(x.var(0, ddof=1) + 1e-7)
    return x[: len(x) // 2 * 2].reshape(-1, 160)


def features(wavs: list[Tensor], config: FbankConfig = CONFIG) -> list[np.ndarray]:
    lengths = [len(wav) for wav in wavs]
    batch = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    counts = [config.num_frames(length) for length in lengths]
    rows = config.features(batch, lengths)
    return [row[:count].numpy() for row, count in zip(rows, counts, strict=True)]


def quiet(num_samples: int = 9_000) -> Tensor:
    """Speech whose higher bands are near the floor of the logarithm."""
    spectrum = torch.fft.rfft(1e-4 * speech(num_samples))
    spectrum[num_samples // 8 :] = 0.0
    return torch.fft.irfft(spectrum, num_samples)


WAVS = [speech(13_200), speech(7_121), speech(16_300), speech(560), speech(720), quiet()]


def test_frames_are_the_reference_s_in_a_batch() -> None:
    for wav, ours in zip(WAVS, features(WAVS), strict=True):
        theirs = reference(wav)
        assert ours.shape == theirs.shape
        assert len(ours) == CONFIG.num_frames(len(wav)) == (1 + (len(wav) - 400) // 160) // 2
        # Another library's logarithm may round one value in a hundred to its neighbour.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)
        assert (ours != theirs).mean() < 0.02


def test_a_frame_left_over_counts_in_the_statistics() -> None:
    wav = speech(720)  # three analysis frames
    assert len(features([wav])[0]) == 1
    assert np.abs(features([wav])[0] - features([wav[:560]])[0]).max() > 0.1


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_seen_where_bands_are_quiet(option: str) -> None:
    value = getattr(CONFIG, option)
    other = msgspec.structs.replace(CONFIG, **{option: not value if value is True else 1.0})
    wavs = [1e-3 * quiet()] if option == "epsilon_in_variance" else WAVS
    worst = max(
        np.abs(ours - theirs).max()
        for ours, theirs in zip(features(wavs, other), features(wavs), strict=True)
    )
    assert worst > 5e-6


def test_traced_features_are_the_same() -> None:
    lengths = torch.tensor([len(wav) for wav in WAVS])
    batch = torch.nn.utils.rnn.pad_sequence(WAVS, batch_first=True)
    rows, counts = _padded_features(batch, lengths, CONFIG)
    for row, count, theirs in zip(rows, counts.tolist(), features(WAVS), strict=True):
        limit = np.where(np.ptp(theirs, axis=0) == 0, CONSTANT_BAND, 2e-5)
        assert (np.abs(row[:count].numpy() - theirs) <= limit).all()


def test_silence_is_what_rounding_leaves_of_it() -> None:
    for num_samples in (4_000, 9_000):
        for wav in (torch.zeros(num_samples), torch.full((num_samples,), 0.3)):
            ours = features([wav])[0]
            np.testing.assert_array_equal(ours, reference(wav))
            assert np.abs(ours).max() <= CONSTANT_BAND


def test_shorter_than_two_analysis_frames_is_refused() -> None:
    assert CONFIG.min_samples == 560
    with pytest.raises(AudioError, match="needs at least 560"):
        features([speech(559)])
    assert msgspec.structs.replace(CONFIG, cmvn=False, stack=3).min_samples == 720


def test_it_does_not_stream() -> None:
    assert "stack" in (CONFIG.streaming_obstacle or "")
    for wrong in ({"stack": 0}, {"sample_scale": 0.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            FbankConfig(**wrong)  # type: ignore[arg-type]
