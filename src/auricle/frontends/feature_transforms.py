"""Deltas, and cepstral mean and variance normalisation (CMVN), of feature frames."""

from __future__ import annotations

import torch
from torch import Tensor


def append_deltas(features: Tensor, *, order: int, window: int) -> Tensor:
    """Append `order` times the deltas of what was appended last.

    `features` is (T, D) float32 of one utterance; the result is (T, D * (1 + order)). With
    N = (window - 1) // 2,

        delta[t] = sum_n n (x[t + n] - x[t - n]) / (2 sum_n n^2),  n = 1 ... N

    where the first and the last frame continue beyond the ends (Young et al., The HTK Book,
    section 5.9).
    """
    parts = [features]
    for _ in range(order):
        parts.append(_slopes(parts[-1], reach=(window - 1) // 2))
    return torch.cat(parts, dim=1)


def _slopes(features: Tensor, *, reach: int) -> Tensor:
    """Regression slopes of (T, D) over `reach` frames on either side, edges replicated."""
    num_frames = len(features)
    first, last = features[:1].expand(reach, -1), features[-1:].expand(reach, -1)
    padded = torch.cat([first, features, last])
    slopes = torch.zeros_like(features)
    for n in range(1, reach + 1):
        # Differences first: a constant dimension then has deltas of exactly zero.
        slopes = slopes + n * (padded[reach + n :][:num_frames] - padded[reach - n :][:num_frames])
    return slopes / (2 * sum(n * n for n in range(1, reach + 1)))


def cmvn(features: Tensor, *, time_dim: int, epsilon: float) -> Tensor:
    """Normalise each dimension of one utterance: `(x - mean) / (std + epsilon)`, std unbiased.

    `features` is (T, D) or (D, T), as `time_dim` says, with two frames at least. Returns the same
    shape, zero in each dimension that is constant, where the formula would divide rounding noise
    by rounding noise.
    """
    values = features.detach()
    is_constant = values.amax(time_dim, keepdim=True) == values.amin(time_dim, keepdim=True)
    # The root has no gradient at zero, and the gradient of an unused branch must be finite.
    shape = [1, 1]
    shape[time_dim] = -1
    ramp = torch.arange(features.shape[time_dim], device=features.device).view(shape)
    std = torch.where(is_constant, ramp, features).std(time_dim, keepdim=True)
    centred = features - features.mean(time_dim, keepdim=True)
    if torch.is_grad_enabled():
        return (centred / (std + epsilon)).masked_fill(is_constant, 0.0)
    # Nothing needs the deviations any more, so the result takes their place.
    return centred.div_(std + epsilon).masked_fill_(is_constant, 0.0)
