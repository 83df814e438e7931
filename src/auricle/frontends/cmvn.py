"""Normalisation over the frames of an utterance: cepstral mean and variance (CMVN)."""

from __future__ import annotations

import torch
from torch import Tensor


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
