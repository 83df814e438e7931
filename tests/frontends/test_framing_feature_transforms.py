from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from auricle.frontends.framing import append_deltas, cmvn


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


def random_features() -> Tensor:
    return torch.randn(9, 4, generator=torch.Generator().manual_seed(0)) * 3 + 100


@pytest.mark.parametrize("num_frames", [2, 5, 9])
def test_matches_numpy_whichever_way_the_features_lie(num_frames: int) -> None:
    features = random_features()[:num_frames]
    true = features.double().numpy()
    expected = (true - true.mean(0)) / (np.std(true, axis=0, ddof=1) + 0.5)
    actual = cmvn(features, time_dim=0, epsilon=0.5)
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-5)
    other = cmvn(features.T.contiguous(), time_dim=1, epsilon=0.5).T
    np.testing.assert_allclose(other.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_constant_dimension_is_exactly_zero() -> None:
    features = random_features()
    features[:, 1] = -15.942385
    actual = cmvn(features, time_dim=0, epsilon=1e-10)
    assert torch.count_nonzero(actual[:, 1]) == 0
    assert torch.count_nonzero(actual[:, 0]) == 9
    assert torch.count_nonzero(cmvn(features.T, time_dim=1, epsilon=1e-10)[1]) == 0


def test_the_least_change_is_no_constant() -> None:
    features = torch.full((8, 1), 100.0)
    features[3] = torch.nextafter(torch.tensor(100.0), torch.tensor(101.0))
    assert torch.count_nonzero(cmvn(features, time_dim=0, epsilon=0.0)) > 0


def test_gradients_are_finite_at_a_constant_and_right_elsewhere() -> None:
    features = random_features().double()
    features[:, 1] = 7.0
    features.requires_grad_()
    weights = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))

    def loss(x: Tensor) -> Tensor:
        return (cmvn(x, time_dim=0, epsilon=1e-10) * weights).sum()

    (gradient,) = torch.autograd.grad(loss(features), features)
    assert gradient.isfinite().all()
    assert torch.count_nonzero(gradient[:, 1]) == 0
    step = torch.zeros_like(features)
    step[3, 0] = 1e-4
    slope = (loss(features + step) - loss(features - step)) / 2e-4
    torch.testing.assert_close(gradient[3, 0], slope, rtol=1e-5, atol=1e-7)
