"""Files of similar length together, within a budget of audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def group_by_length(items: Sequence[tuple[Item, float]], max_seconds: float) -> list[list[Item]]:
    """Batches of items, longest first, each within `max_seconds` when padded to its longest.

    `items` holds pairs of an item and its length in seconds. An item longer than the budget goes
    alone. Longest first, so that what does not fit into memory shows at the start.
    """
    batches: list[list[Item]] = []
    longest_seconds = 0.0
    for item, seconds in sorted(items, key=lambda pair: pair[1], reverse=True):
        if batches and (len(batches[-1]) + 1) * longest_seconds <= max_seconds:
            batches[-1].append(item)
        else:
            batches.append([item])
            longest_seconds = seconds
    return batches
