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
@pytest.mark.parametrize("num_frames", [1, 2, 3, 17])
def test_equation(window: int, num_frames: int) -> None:
    features = torch.randn(num_frames, 4, generator=torch.Generator().manual_seed(0))
    actual = append_deltas(features, order=2, window=window)
    still = features.double()
    first = deltas_by_loop(still, window)
    expected = torch.cat([still, first, deltas_by_loop(first, window)], dim=1)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_constant_has_deltas_of_exactly_zero() -> None:
    features = torch.full((7, 2), 0.1)
    assert torch.count_nonzero(append_deltas(features, order=2, window=5)[:, 2:]) == 0


def test_order_zero_is_the_features_alone() -> None:
    features = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(append_deltas(features, order=0, window=5), features)
