"""Averages over groups of frames, cut by each utterance's own length."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def average_groups(x: Tensor, lengths: Sequence[int], num_groups: Sequence[int]) -> Tensor:
    """Each utterance's frames averaged in groups of `lengths // num_groups` neighbours.

    Frames beyond a whole multiple of `num_groups` are dropped (PASE+, arXiv:2001.09239).

    Args:
        x: (B, C, T); past the true ends it may hold any finite values.
        lengths: True frames of each row of `x`.
        num_groups: Groups to cut each row into, from 1 to its length.

    Returns:
        (B, C, the largest of `num_groups`), zeros past an utterance's groups.
    """
    sizes = [length // count for length, count in zip(lengths, num_groups, strict=True)]
    rows_by_size: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        rows_by_size.setdefault(size, []).append(row)
    averages = x.new_zeros(x.shape[0], x.shape[1], max(num_groups))
    # Lengths of some seconds share one size or two, so that this is a loop over very few.
    for size, rows in rows_by_size.items():
        most = max(num_groups[row] for row in rows)
        part = (x if len(rows) == len(sizes) else x[rows])[:, :, : most * size]
        averages[rows, :, :most] = part.reshape(*part.shape[:2], most, size).mean(3)
    for row, count in enumerate(num_groups):
        averages[row, :, count:] = 0
    return averages


def partial_averages(
    x: Tensor, *, first: int, group_size: int, num_groups: int
) -> tuple[int, Tensor]:
    """What a stretch of one utterance's frames adds to the averages of its groups.

    Args:
        x: (C, T), the frames from `first` on.
        first: Where the stretch begins.
        group_size: Frames of each group.
        num_groups: Groups of the utterance; frames beyond them are dropped.

    Returns:
        The first group that the stretch adds to, and what it adds to that and the following ones,
        (C, groups).
    """
    first_group, skipped = divmod(first, group_size)
    kept = x[:, : max(num_groups * group_size - first, 0)]
    most = -(-(skipped + kept.shape[1]) // group_size)
    rest = most * group_size - skipped - kept.shape[1]
    groups = F.pad(kept, (skipped, rest)).view(len(x), most, group_size)
    return first_group, groups.sum(2) / group_size
