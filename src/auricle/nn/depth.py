"""Limit of an encoder's depth."""

from __future__ import annotations

MAX_DEPTH = 1_000
"""Far above any published encoder; a damaged config must not build modules for hours."""


def check_depth(num_layers: int) -> None:
    """Raise ValueError unless a stack of `num_layers` layers can be meant."""
    if not 1 <= num_layers <= MAX_DEPTH:
        raise ValueError(
            f"an encoder must have at least 1 and at most {MAX_DEPTH} layers, but has {num_layers}"
        )
