"""Transforms of feature frames: deltas, and cepstral mean and variance normalisation (CMVN)."""

from __future__ import annotations

import torch
from torch import Tensor


def append_deltas(features: Tensor, *, order: int, window: int) -> Tensor:
    """Append deltas: regression slopes of each dimension over time, `order` times.

    `features` is (T, D) float32 of one utterance; the result is (T, D * (1 + order)), each order
    the deltas of the one before. With N = (window - 1) // 2,

        delta[t] = sum_n n (x[t + n] - x[t - n]) / (2 sum_n n^2),  n = 1 ... N

    where the first and last frame are repeated beyond the ends (Young et al., The HTK Book,
    section 5.9).
    """
    parts = [features]
    for _ in range(order):
        parts.append(_slopes(parts[-1], reach=(window - 1) // 2))
    return torch.cat(parts, dim=1)


def _slopes(features: Tensor, *, reach: int) -> Tensor:
    """Regression slopes of (T, D) over `reach` frames on either side, with replicated edges."""
    num_frames = len(features)
    first, last = features[:1].expand(reach, -1), features[-1:].expand(reach, -1)
    padded = torch.cat([first, features, last])
    slopes = torch.zeros_like(features)
    for n in range(1, reach + 1):
        # Differences first, so that a constant dimension has deltas of exactly zero.
        slopes = slopes + n * (padded[reach + n :][:num_frames] - padded[reach - n :][:num_frames])
    return slopes / (2 * sum(n * n for n in range(1, reach + 1)))


def cmvn(features: Tensor, *, time_dim: int, epsilon: float) -> Tensor:
    """Mean and variance normalisation of one utterance: `(x - mean) / (std + epsilon)`.

    `features` is (T, D) or (D, T), as `time_dim` says, with at least two frames; std is unbiased.
    A constant dimension becomes 0, where the formula would divide rounding noise by rounding noise.
    """
    values = features.detach()
    is_constant = values.amax(time_dim, keepdim=True) == values.amin(time_dim, keepdim=True)
    # The square root has no gradient at 0, and the gradient of the unused branch must be finite.
    shape = [1, 1]
    shape[time_dim] = -1
    ramp = torch.arange(features.shape[time_dim], device=features.device).view(shape)
    std = torch.where(is_constant, ramp, features).std(time_dim, keepdim=True)
    centred = features - features.mean(time_dim, keepdim=True)
    if torch.is_grad_enabled():
        return (centred / (std + epsilon)).masked_fill(is_constant, 0.0)
    # In place, since no backward pass needs the deviations.
    return centred.div_(std + epsilon).masked_fill_(is_constant, 0.0)
