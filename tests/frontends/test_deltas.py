"""Deltas against the equation written as a loop."""

from __future__ import annotations

import pytest
import torch

from auricle.frontends.deltas import append_deltas


def deltas_by_loop(features: torch.Tensor, window: int) -> torch.Tensor:
    """(frames, dims) -> (frames, dims), sum by sum."""
    reach, final = (window - 1) // 2, len(features) - 1
    scale = 2 * sum(n * n for n in range(1, reach + 1))
    rows = [
        sum(
            n * (features[min(t + n, final)] - features[max(t - n, 0)]) for n in range(1, reach + 1)
        )
        / scale
        for t in range(final + 1)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("window", [3, 4, 5, 9])
def test_equation(window: int) -> None:
    lengths = [1, 2, 3, 17, 11]
    features = torch.randn(5, 17, 4, generator=torch.Generator().manual_seed(0))
    actual = append_deltas(features, torch.tensor(lengths), order=2, window=window)
    assert actual.shape == (5, 17, 12)
    for row, length in enumerate(lengths):
        still = features[row, :length].double()
        first = deltas_by_loop(still, window)
        expected = torch.cat([still, first, deltas_by_loop(first, window)], dim=1)
        torch.testing.assert_close(actual[row, :length].double(), expected, rtol=1e-6, atol=1e-6)
        # The first slopes are the equation's, rounded to float32 once.
        assert torch.equal(actual[row, :length, 4:8], first.float())


def test_frames_past_the_end_do_not_matter() -> None:
    features = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    spoilt = features.clone()
    spoilt[1, 6:] = torch.nan
    lengths = torch.tensor([9, 6])
    clean = append_deltas(features, lengths, order=2, window=5)
    dirty = append_deltas(spoilt, lengths, order=2, window=5)
    assert torch.equal(clean[0], dirty[0])
    assert torch.equal(clean[1, :6], dirty[1, :6])


def test_a_constant_has_deltas_of_exactly_zero() -> None:
    features = torch.full((1, 7, 2), 0.1)
    deltas = append_deltas(features, torch.tensor([7]), order=2, window=5)[..., 2:]
    assert torch.count_nonzero(deltas) == 0


def test_order_zero_is_the_features_alone() -> None:
    features = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(append_deltas(features, torch.tensor([5]), order=0, window=5), features)
