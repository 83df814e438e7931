"""Autoregressive prediction of frames: what APC and VQ-APC share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from auricle.objectives.base import masked_mean, true_frames


def future_l1(predicted: Tensor, features: Tensor, num_frames: Sequence[int], ahead: int) -> Tensor:
    """Mean absolute error of frames predicted `ahead` of time (APC, arXiv:1904.03240, eq. 1).

    Args:
        predicted: (B, T, D), at frame t the prediction of frame t + `ahead`.
        features: (B, T, D), the frames themselves.
        num_frames: True length of each utterance; only true frames are predicted.
        ahead: How many frames ahead.
    """
    target = features[:, ahead:]
    counts = [count - ahead for count in num_frames]
    is_true = true_frames(counts, target.shape[1], features.device)
    return masked_mean((predicted[:, : target.shape[1]] - target).abs(), is_true.unsqueeze(2))
