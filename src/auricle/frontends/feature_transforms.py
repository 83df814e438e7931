"""Transforms of feature frames: deltas, and cepstral mean and variance normalisation (CMVN)."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 2e-6
"""Relative difference of float32 values that stem from the same samples, in a padded batch."""


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


def cmvn(features: Tensor, *, time_dim: int, epsilon: float, in_variance: bool = False) -> Tensor:
    """Mean and variance normalisation of one utterance: `(x - mean) / (std + epsilon)`.

    With `in_variance` it is `(x - mean) / sqrt(std^2 + epsilon)`. `features` is (T, D) or (D, T),
    as `time_dim` says, with at least two frames; std is unbiased.
    A constant dimension becomes 0, where the formula would divide rounding noise by rounding noise.
    """
    values = features.detach()
    is_constant = values.amax(time_dim, keepdim=True) == values.amin(time_dim, keepdim=True)
    # The square root has no gradient at 0, and the gradient of the unused branch must be finite.
    shape = [1, 1]
    shape[time_dim] = -1
    ramp = torch.arange(features.shape[time_dim], device=features.device).view(shape)
    std = torch.where(is_constant, ramp, features).std(time_dim, keepdim=True)
    divisor = _divisor(std, epsilon, in_variance)
    centred = features - features.mean(time_dim, keepdim=True)
    if torch.is_grad_enabled():
        return (centred / divisor).masked_fill(is_constant, 0.0)
    # In place, since no backward pass needs the deviations.
    return centred.div_(divisor).masked_fill_(is_constant, 0.0)


def _divisor(std: Tensor, epsilon: float, in_variance: bool) -> Tensor:
    return (std.square() + epsilon).sqrt() if in_variance else std + epsilon


def padded_mean(features: Tensor, lengths: Tensor) -> Tensor:
    """Means (B, 1, D) over the valid frames of a padded batch (B, T, D), `lengths` (B,)."""
    valid = features.masked_fill(is_padding(features, lengths), 0.0)
    return valid.sum(1, keepdim=True) / lengths.view(-1, 1, 1)


def padded_deltas(features: Tensor, lengths: Tensor, *, order: int, window: int) -> Tensor:
    """`append_deltas` of each utterance of a padded batch (B, T, D), `lengths` (B,)."""
    reach = (window - 1) // 2
    frames = torch.arange(features.shape[1], device=features.device)

    def shifted(x: Tensor, n: int) -> Tensor:
        """Frame t + n at place t, within the utterance's own ends."""
        index = (frames + n).clamp(min=0).minimum(lengths.unsqueeze(1) - 1)
        return x.gather(1, index.unsqueeze(2).expand_as(x))

    parts = [features]
    for _ in range(order):
        x = parts[-1]
        slopes = [n * (shifted(x, n) - shifted(x, -n)) for n in range(1, reach + 1)]
        parts.append(torch.stack(slopes).sum(0) / (2 * sum(n * n for n in range(1, reach + 1))))
    return torch.cat(parts, dim=2)


def padded_cmvn(
    features: Tensor, lengths: Tensor, *, epsilon: float, in_variance: bool = False
) -> Tensor:
    """`cmvn` of each utterance of a padded batch (B, T, D), `lengths` (B,) of at least 2."""
    padding = is_padding(features, lengths)
    lowest = features.masked_fill(padding, torch.inf).amin(1, keepdim=True)
    highest = features.masked_fill(padding, -torch.inf).amax(1, keepdim=True)
    # Products of matrices round equal frames differently by their place in the batch.
    is_constant = highest - lowest <= ROUNDING * torch.maximum(highest.abs(), lowest.abs())
    centred = (features - padded_mean(features, lengths)).masked_fill(padding, 0.0)
    variance = centred.square().sum(1, keepdim=True) / (lengths - 1).view(-1, 1, 1)
    std = variance.masked_fill(is_constant, 1.0).sqrt()
    return (centred / _divisor(std, epsilon, in_variance)).masked_fill(is_constant, 0.0)


def is_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """Mask (B, T, 1), or (B, S) for waveforms, that is True from the end of each utterance on."""
    mask = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
    return mask.view(*mask.shape, *[1] * (x.dim() - 2))
