"""Padded batches: which frames are true, and zeros everywhere else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def padding_mask(lengths: Sequence[int], max_length: int, device: torch.device) -> Tensor | None:
    """Boolean (B, T) mask that is True on padding, or None where there is no padding."""
    if all(length == max_length for length in lengths):
        return None
    positions = torch.arange(max_length, device=device)
    return positions >= torch.tensor(lengths, device=device).unsqueeze(1)


def zero_padding(x: Tensor, mask: Tensor | None, *, time_dim: int) -> Tensor:
    """`x` with zeros where `mask` (B, T) is True; `time_dim` is the axis of `x` that holds T."""
    if mask is None:
        return x
    shape = [1] * x.dim()
    shape[0], shape[time_dim] = mask.shape
    return x.masked_fill(mask.view(shape), 0.0)


def pad_frames(rows: Sequence[Tensor]) -> Tensor:
    """Stack frames (T, D) into (B, T, D), zeros past their ends; a lone one is not copied."""
    if len(rows) == 1:
        return rows[0].unsqueeze(0)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def pad_waveforms(waveforms: Sequence[Tensor]) -> Tensor:
    """Stack 1-D waveforms into (B, S), zeros on the right."""
    return torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True)
