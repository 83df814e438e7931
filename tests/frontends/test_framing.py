"""Utterances, windows and batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.errors import AudioError
from auricle.frontends import framing


def batch(waveforms: Tensor, lengths: list[int] | Tensor, min_samples: int = 1) -> Tensor:
    """Each utterance (S,) as its own features (S, 1)."""
    return framing.batch_features(
        waveforms,
        lengths,
        lambda x: x.unsqueeze(1),
        lambda x, lengths: (x.unsqueeze(2), lengths),
        min_samples=min_samples,
        dim=1,
    )


def test_padding_is_ignored_under_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    waveforms = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, float("nan")]])
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    features = batch(waveforms, torch.tensor([3, 2]))
    assert features.squeeze(2).tolist() == [[1, 2, 3], [4, 5, 0]]


@pytest.mark.parametrize("lengths", [[3, 2], torch.tensor([3, 2])])
def test_padding_is_ignored(lengths: list[int] | Tensor) -> None:
    waveforms = torch.arange(1.0, 9.0, dtype=torch.float64).view(2, 4)
    waveforms[1, 2:] = torch.nan
    features = batch(waveforms, lengths)
    assert features.squeeze(2).tolist() == [[1, 2, 3], [5, 6, 0]]
    assert features.dtype == torch.float32


def test_a_short_waveform_is_named() -> None:
    with pytest.raises(AudioError, match=r"waveform 1 has 399 samples, .* at least 400"):
        batch(torch.zeros(2, 500), [500, 399], 400)


@pytest.mark.parametrize(
    ("shape", "lengths", "message"),
    [
        ((2, 500), [500], r"shape \(2, 500\) with 1 lengths"),
        ((500,), [500], r"must be \(batch, samples\)"),
        ((1, 500), [501], "at most 500, the width of the batch, but the longest is 501"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    shape: tuple[int, ...], lengths: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        batch(torch.zeros(shape), lengths)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = torch.arange(20.0)
    monkeypatch.setattr(framing, "BLOCK_FRAMES", 5)
    sizes = []

    def transform(block: torch.Tensor) -> torch.Tensor:
        sizes.append(len(block))
        return block

    windows = framing.transform_windows(samples, size=6, stride=2, transform=transform)
    assert windows.shape == (8, 6)
    assert windows[7].tolist() == [14, 15, 16, 17, 18, 19]
    assert windows[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert sizes == [5, 3]


def test_magnitudes_of_a_cosine() -> None:
    cosine = torch.cos(2 * torch.pi * 3 * torch.arange(16) / 16).unsqueeze(0)
    expected = torch.zeros(1, 9)
    expected[0, 3] = 8.0
    torch.testing.assert_close(framing.magnitudes(cosine, size=16), expected)
    assert framing.magnitudes(cosine, size=32).shape == (1, 17)
