"""Delta features: the slope of each dimension over neighbouring frames."""

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
