from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from auricle.cli.batches import group_by_length


def test_similar_lengths_go_together_longest_first() -> None:
    items = [("a", 2.0), ("b", 9.0), ("c", 3.0), ("d", 10.0), ("e", 2.5)]
    assert group_by_length(items, 20.0) == [["d", "b"], ["c", "e", "a"]]


def test_an_item_beyond_the_budget_goes_alone() -> None:
    assert group_by_length([("a", 1.0), ("b", 50.0), ("c", 1.0)], 10.0) == [["b"], ["a", "c"]]


def test_nothing_gives_nothing() -> None:
    assert group_by_length([], 10.0) == []


@given(st.lists(st.floats(0.01, 100)), st.floats(0.1, 200))
def test_every_item_once_and_padding_within_the_budget(
    lengths: list[float], max_seconds: float
) -> None:
    batches = group_by_length(list(enumerate(lengths)), max_seconds)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert len(batch) == 1 or padded <= max_seconds
