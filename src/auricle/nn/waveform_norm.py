"""Removal of offset and level from waveforms, each by its own statistics, in padded batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from auricle.nn.padding import padding_mask, zero_padding


def centred(waveforms: Tensor, lengths: Sequence[int]) -> Tensor:
    """Waveforms (B, S) less the mean of each over its true samples, zeros past each true end."""
    return _deviations(waveforms, lengths)[0].to(waveforms.dtype)


def normalized(waveforms: Tensor, lengths: Sequence[int], *, eps: float) -> Tensor:
    """Waveforms (B, S) of zero mean and unit variance each, zeros past each true end.

    `(x - mean) / sqrt(var + eps)`, the variance biased, over the true samples of each.
    """
    deviations, counts = _deviations(waveforms, lengths)
    variances = deviations.square().sum(1, keepdim=True) / counts
    return (deviations * (variances + eps).rsqrt()).to(waveforms.dtype)


def _deviations(waveforms: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Deviations (B, S) from each mean, zeros past each true end, and lengths (B, 1), float64.

    In float64 a sum of float32 samples is exact for minutes of audio, so neither padding nor an
    offset leaves a trace, and a constant waveform becomes zeros.
    """
    padding = padding_mask(lengths, waveforms.shape[1], waveforms.device)
    x = zero_padding(waveforms.double(), padding, time_dim=1)
    counts = torch.tensor(lengths, dtype=torch.float64, device=x.device).unsqueeze(1)
    return zero_padding(x - x.sum(1, keepdim=True) / counts, padding, time_dim=1), counts
