"""Whisper's log mel features against NumPy, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.frontends.log_mel import WHISPER_GEOMETRY, _whisper_filters, whisper_log_mel


def hertz(mel: float) -> float:
    """Slaney's scale (Auditory Toolbox, 1998)."""
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def mel_basis(num_mels: int) -> NDArray[np.float64]:
    """(mels, bins): triangles of area 1."""
    top = 15 + 27 * np.log(8) / np.log(6.4)
    edges = [hertz(mel) for mel in np.linspace(0, top, num_mels + 2)]
    bins = np.linspace(0, 8000, 201)
    return np.stack(
        [
            np.interp(bins, edges[k : k + 3], [0, 1, 0]) * 2 / (edges[k + 2] - edges[k])
            for k in range(num_mels)
        ]
    )


def reference(wav: Tensor, num_mels: int) -> Tensor:
    samples = np.pad(wav.double().numpy(), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160][:-1]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    bands = np.log10(np.maximum(power @ mel_basis(num_mels).T, 1e-10))
    return torch.from_numpy((np.maximum(bands, bands.max() - 8) + 4) / 4)


@pytest.mark.parametrize("num_mels", [80, 128])
def test_rows_are_the_formula_s_whatever_stands_beside_them(num_mels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    loud = 0.3 * torch.randn(3200, generator=generator)
    quiet = torch.cat([0.05 * torch.randn(1700, generator=generator), torch.zeros(1500)])
    rows = torch.stack([loud, quiet, torch.zeros(3200)])
    features = whisper_log_mel(rows, num_mels)
    assert features.shape == (3, WHISPER_GEOMETRY.num_frames(3200), num_mels)
    for row, ours in zip(rows, features, strict=True):
        torch.testing.assert_close(ours.double(), reference(row, num_mels), rtol=0, atol=2e-5)
    assert features[2].eq(-1.5).all()
    # Silence stands at the floor of its own row: 2 below the peak.
    assert features[1, -1].sub(features[1].max() - 2).abs().max() < 1e-6


@pytest.mark.parametrize("num_mels", [80, 128])
def test_filters_are_slaney_s(num_mels: int) -> None:
    expected = torch.from_numpy(mel_basis(num_mels).T)
    torch.testing.assert_close(_whisper_filters(num_mels).double(), expected, rtol=1e-6, atol=1e-9)


def test_gradients_pass() -> None:
    wav = 0.1 * torch.randn(1, 1600, generator=torch.Generator().manual_seed(0))
    wav[0, 800:] = 0
    wav.requires_grad_()
    whisper_log_mel(wav, 80).square().sum().backward()
    assert wav.grad is not None
    assert wav.grad.isfinite().all()
    assert wav.grad.any()
