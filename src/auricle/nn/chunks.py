"""Long sequences a stretch at a time, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from auricle.nn.cpu.policy import is_traced, may_bypass

MAX_CHUNK_BYTES = 64 << 20
"""What the largest intermediate value of a stretch may take."""


def chunks(num_frames: int, bytes_per_frame: int, modules: Iterable[nn.Module]) -> list[slice]:
    """Stretches of a sequence in order, each small enough to be computed at once.

    Where gradients are recorded there is one stretch, for autograd keeps all of them anyway; and
    where a module has to see the whole of it.

    Args:
        num_frames: Length of the sequence.
        bytes_per_frame: Of the largest intermediate value, over the whole batch.
        modules: What is called on each stretch.
    """
    if torch.is_grad_enabled() or is_traced():
        return [slice(0, num_frames)]
    size = max(1, MAX_CHUNK_BYTES // max(1, bytes_per_frame))
    if num_frames <= size or not may_bypass(*modules):
        return [slice(0, num_frames)]
    return split(num_frames, size)


def split(num_frames: int, size: int) -> list[slice]:
    """Stretches of `size` frames in order, the last one perhaps of fewer."""
    return [slice(start, min(start + size, num_frames)) for start in range(0, num_frames, size)]
