"""Reflect padding at the true ends of utterances in a padded batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.nn.batch import Lengths, as_tensor
from auricle.nn.cpu.policy import joins_frames


def reflect_pad(x: Tensor, lengths: Lengths, *, left: int, right: int) -> Tensor:
    """Each utterance mirrored at its own two ends, its first and last frame not repeated.

    Args:
        x: (B, C, T); past the true ends it may hold any finite values.
        lengths: True frames of each row of `x`, each more than `left` and `right`; the largest
            is T.
        left: Frames to add before the first.
        right: Frames to add after the last true one.

    Returns:
        (B, C, left + T + right). What follows an utterance's `right` mirrored frames is neither
        mirrored nor zero.
    """
    if not isinstance(lengths, Tensor) and len(set(lengths)) == 1:
        if not joins_frames(x):
            return F.pad(x, (left, right), mode="reflect")
        # As it lies in memory where inference has computed it: frame after frame.
        frames = x.transpose(1, 2)
        before, after = frames[:, 1 : left + 1].flip(1), frames[:, -right - 1 : -1].flip(1)
        return torch.cat([before, frames, after], dim=1).transpose(1, 2)
    before = x[:, :, 1 : left + 1].flip(2)
    after = x.new_zeros(x.shape[0], x.shape[1], right)
    padded = torch.cat([before, x, after], dim=2)
    ends = as_tensor(lengths, x.device).view(-1, 1, 1)
    steps = torch.arange(right, device=x.device)
    shape = (-1, x.shape[1], -1)
    mirrored = x.gather(2, (ends - 2 - steps).expand(shape))
    return padded.scatter_(2, (left + ends + steps).expand(shape), mirrored)
