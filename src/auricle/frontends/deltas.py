"""Delta features: the slope of each dimension over neighbouring frames."""

from __future__ import annotations

import torch
from torch import Tensor


def append_deltas(features: Tensor, num_frames: Tensor, *, order: int, window: int) -> Tensor:
    """Append `order` times the deltas of what was appended last.

    `features` is (batch, frames, dims) in float32 and `num_frames` (batch,) the true lengths on
    the same device; the result is (batch, frames, dims * (1 + order)) in float32, and past an
    utterance's true end it holds no meaning. With N = (window - 1) // 2,

        delta[t] = sum_n n (x[t + n] - x[t - n]) / (2 sum_n n^2),  n = 1 ... N

    where the first and the last true frame continue beyond the ends (Young et al., The HTK Book,
    section 5.9).
    """
    last = (num_frames - 1).unsqueeze(1)
    frames = torch.arange(features.shape[1], device=features.device)
    held_frames = torch.minimum(frames, last).unsqueeze(-1).expand(-1, -1, features.shape[2])
    stacked = [features]
    for _ in range(order):
        stacked.append(_slopes(stacked[-1].gather(1, held_frames), reach=(window - 1) // 2))
    return torch.cat(stacked, dim=-1)


def _slopes(features: Tensor, *, reach: int) -> Tensor:
    """Regression slopes of (B, T, D) over `reach` frames on either side, edges replicated."""
    num_frames = features.shape[1]
    # Differences first, in float64: a constant dimension then has deltas of exactly zero.
    first, last = features[:, :1], features[:, -1:]
    padded = torch.cat(
        [first.expand(-1, reach, -1), features, last.expand(-1, reach, -1)], dim=1
    ).to(torch.float64)
    slopes = torch.zeros_like(features, dtype=torch.float64)
    for n in range(1, reach + 1):
        later = padded.narrow(1, reach + n, num_frames)
        earlier = padded.narrow(1, reach - n, num_frames)
        slopes = slopes + n * (later - earlier)
    return (slopes / (2 * sum(n * n for n in range(1, reach + 1)))).to(torch.float32)
