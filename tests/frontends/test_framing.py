"""Padded batches and windows."""

from __future__ import annotations

import pytest
import torch

from auricle.errors import AudioError
from auricle.frontends import framing


def test_padding_is_true_past_the_length() -> None:
    mask = framing.padding_mask(torch.tensor([0, 2, 3]), 3)
    assert mask.tolist() == [[True, True, True], [False, False, True], [False, False, False]]


def test_padding_becomes_zero_and_the_rest_stays() -> None:
    waveforms = torch.arange(1.0, 9.0).view(2, 4)
    waveforms[1, 2:] = torch.nan
    waveforms[:, 3] = torch.inf
    samples, lengths = framing.true_samples(waveforms, [3, 2], 1)
    assert samples.dtype == torch.float64
    assert samples.tolist() == [[1, 2, 3], [5, 6, 0]]
    assert lengths.tolist() == [3, 2]


def test_a_short_waveform_is_named() -> None:
    with pytest.raises(AudioError, match=r"waveform 1 has 399 samples, .* at least 400"):
        framing.true_samples(torch.zeros(2, 500), [500, 399], 400)


@pytest.mark.parametrize(
    ("shape", "num_samples", "message"),
    [
        ((2, 500), [500], r"shape \(2, 500\) with 1 lengths"),
        ((500,), [500], r"must be \(batch, samples\)"),
        ((1, 500), [501], "at most 500, the width of the batch, but is 501"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    shape: tuple[int, ...], num_samples: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        framing.true_samples(torch.zeros(shape), num_samples, 1)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = torch.arange(40, dtype=torch.float64).view(2, 20)
    monkeypatch.setattr(framing, "BLOCK_FRAMES", 5)
    windows = framing.transform_windows(samples, size=6, stride=2, transform=lambda part: part)
    assert windows.dtype == torch.float32
    assert windows.shape == (2, 8, 6)
    assert windows[1, 7].tolist() == [34, 35, 36, 37, 38, 39]
    assert windows[0, :, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


def test_power_spectrum_of_a_cosine() -> None:
    cosine = torch.cos(2 * torch.pi * 3 * torch.arange(16, dtype=torch.float64) / 16)
    power = framing.power_spectrum(cosine, size=16)
    expected = torch.zeros(9, dtype=torch.float64)
    expected[3] = 64.0
    torch.testing.assert_close(power, expected)
    assert framing.power_spectrum(cosine, size=32).shape == (17,)
