"""Mean and variance normalisation against NumPy, and where its formula is undefined."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from auricle.frontends.cmvn import apply_cmvn, subtract_mean


def random_features() -> Tensor:
    return torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(0)) * 3 + 100


def test_matches_numpy_over_true_frames() -> None:
    features, lengths = random_features(), [9, 2, 5]
    features[1, 2:] = torch.nan
    actual = apply_cmvn(features, torch.tensor(lengths), epsilon=0.5)
    assert actual.dtype == torch.float32
    for row, length in enumerate(lengths):
        true = features[row, :length].double().numpy()
        expected = (true - true.mean(0)) / (np.std(true, axis=0, ddof=1) + 0.5)
        np.testing.assert_allclose(actual[row, :length].numpy(), expected, rtol=1e-6, atol=1e-6)
        assert torch.count_nonzero(actual[row, length:]) == 0


def test_a_constant_dimension_is_exactly_zero() -> None:
    features = random_features()
    features[0, :, 1] = -15.942385
    features[2, :5, 3] = 0.1
    actual = apply_cmvn(features, torch.tensor([9, 9, 5]), epsilon=1e-10)
    assert torch.count_nonzero(actual[0, :, 1]) == 0
    assert torch.count_nonzero(actual[2, :, 3]) == 0
    assert torch.count_nonzero(actual[0, :, 0]) == 9


def test_the_least_change_is_no_constant() -> None:
    features = torch.full((1, 8, 1), 100.0)
    features[0, 3] = torch.nextafter(torch.tensor(100.0), torch.tensor(101.0))
    actual = apply_cmvn(features, torch.tensor([8]), epsilon=0.0)
    torch.testing.assert_close(actual.std(), torch.tensor(1.0))


def test_one_frame_is_zero() -> None:
    features = random_features().requires_grad_()
    actual = apply_cmvn(features, torch.tensor([1, 1, 1]), epsilon=1e-10)
    assert torch.count_nonzero(actual) == 0
    (gradient,) = torch.autograd.grad(actual.sum(), features)
    assert torch.count_nonzero(gradient) == 0


def test_gradients_are_finite_at_a_constant_and_right_elsewhere() -> None:
    features = random_features().double()
    features[0, :, 1] = 7.0
    features.requires_grad_()
    lengths = torch.tensor([9, 3, 5])
    weights = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(1))

    def loss(x: Tensor) -> Tensor:
        return (apply_cmvn(x, lengths, epsilon=1e-10) * weights).double().sum()

    (gradient,) = torch.autograd.grad(loss(features), features)
    assert torch.count_nonzero(gradient[0, :, 1]) == 0
    step = torch.zeros_like(features)
    step[2, 3, 0] = 1e-2
    slope = (loss(features + step) - loss(features - step)) / 2e-2
    torch.testing.assert_close(gradient[2, 3, 0], slope, rtol=1e-3, atol=1e-4)
    assert torch.count_nonzero(gradient[1, 3:]) == 0


def test_subtract_mean_leaves_padding_at_zero() -> None:
    features = random_features()
    features[1, 4:] = torch.nan
    actual = subtract_mean(features, torch.tensor([9, 4, 5]))
    true = features[1, :4].double()
    torch.testing.assert_close(actual[1, :4].double(), true - true.mean(0), rtol=1e-6, atol=1e-6)
    assert torch.count_nonzero(actual[1, 4:]) == 0
    assert torch.count_nonzero(actual[2, 5:]) == 0
