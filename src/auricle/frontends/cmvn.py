"""Normalisation over the true frames of an utterance: cepstral mean and variance (CMVN)."""

from __future__ import annotations

import torch
from torch import Tensor

from auricle.frontends.framing import padding_mask


def apply_cmvn(features: Tensor, num_frames: Tensor, *, epsilon: float) -> Tensor:
    """Normalise each dimension of each utterance: `(x - mean) / (std + epsilon)`, std unbiased.

    `features` is (batch, frames, dims) in float32 and `num_frames` (batch,) the true lengths on
    the same device. Returns float32 of the same shape, zero past the true ends, and zero in each
    dimension that is constant over an utterance's true frames, where the formula would divide
    rounding noise by rounding noise.
    """
    padding = padding_mask(num_frames, features.shape[1]).unsqueeze(-1)
    values = features.detach()
    highest = values.masked_fill(padding, -torch.inf).amax(1, keepdim=True)
    lowest = values.masked_fill(padding, torch.inf).amin(1, keepdim=True)
    is_constant = highest == lowest  # (B, 1, D)
    centred = _centre(features, num_frames, padding)
    # One frame alone is constant in every dimension; the clamp keeps 0 / 0 out of its gradient.
    degrees = (num_frames - 1).clamp(min=1).view(-1, 1, 1)
    variance = centred.square().sum(1, keepdim=True) / degrees
    # The root has no gradient at zero, and the gradient of an unused branch must be finite.
    std = variance.masked_fill(is_constant, 1.0).sqrt()
    return (centred / (std + epsilon)).masked_fill(is_constant, 0.0).to(torch.float32)


def subtract_mean(features: Tensor, num_frames: Tensor) -> Tensor:
    """Subtract each utterance's mean over its true frames.

    Takes and returns (batch, frames, dims) in float32, zero past the true ends; `num_frames`
    (batch,) lies on the same device.
    """
    padding = padding_mask(num_frames, features.shape[1]).unsqueeze(-1)
    return _centre(features, num_frames, padding).to(torch.float32)


def _centre(features: Tensor, num_frames: Tensor, padding: Tensor) -> Tensor:
    """Features minus their mean over true frames in float64, zero where `padding` is True."""
    values = features.to(torch.float64).masked_fill(padding, 0.0)
    mean = values.sum(1, keepdim=True) / num_frames.view(-1, 1, 1)
    return (values - mean).masked_fill(padding, 0.0)
