"""Depth of an encoder: its limit, and layers that training leaves out."""

from __future__ import annotations

import torch
from torch import nn

from auricle.nn.cpu.policy import is_plain_tensor

MAX_DEPTH = 1_000
"""Far above any published encoder; a damaged config must not build modules for hours."""


def check_depth(num_layers: int) -> None:
    """Raise ValueError unless a stack of `num_layers` layers can be meant."""
    if not 1 <= num_layers <= MAX_DEPTH:
        raise ValueError(
            f"an encoder must have at least 1 and at most {MAX_DEPTH} layers, but has {num_layers}"
        )


def is_left_out(layer: nn.Module, probability: float, generator: torch.Generator | None) -> bool:
    """Draw if this step of training leaves a layer out (LayerDrop, arXiv:1909.11556).

    Processes that hold a part of its weights each wait for each other in it: it is never left
    out by some of them.
    """
    is_whole = all(is_plain_tensor(parameter) for parameter in layer.parameters())
    chance = torch.rand((), generator=generator, device="cpu").item()
    return chance < probability and is_whole
