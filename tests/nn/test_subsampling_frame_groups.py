from __future__ import annotations

import pytest
import torch

from auricle.nn.subsampling import average_groups, partial_averages


def test_each_row_is_averaged_by_its_own_lengths() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 40)
    lengths, num_groups = [40, 37, 12, 19], [4, 4, 2, 1]
    averages = average_groups(x, lengths, num_groups)
    assert averages.shape == (4, 3, 4)
    for row, output, length, count in zip(x, averages, lengths, num_groups, strict=True):
        size = length // count
        for group in range(count):
            expected = row[:, group * size : (group + 1) * size].mean(1)
            assert torch.allclose(output[:, group], expected, atol=1e-6)
        assert (output[:, count:] == 0).all()


def test_rows_of_one_size_but_unequal_counts() -> None:
    x = torch.arange(24.0).view(2, 1, 12)
    averages = average_groups(x, [12, 6], [4, 2])
    assert averages[:, 0].tolist() == [[1, 4, 7, 10], [13, 16, 0, 0]]


def test_gradients_stay_within_the_groups() -> None:
    x = torch.randn(2, 1, 7, requires_grad=True)
    average_groups(x, [7, 5], [3, 1]).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad[0, 0], torch.tensor([0.5] * 6 + [0.0]))
    assert torch.allclose(x.grad[1, 0], torch.tensor([0.2] * 5 + [0.0] * 2))


@pytest.mark.parametrize("stretch", [1, 3, 4, 5, 13, 40])
def test_stretches_add_up_to_the_averages(stretch: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 39)
    averages = average_groups(x, [39], [9])[0]
    sums = torch.zeros(3, 9)
    for first in range(0, 39, stretch):
        part = x[0, :, first : first + stretch]
        group, share = partial_averages(part, first=first, group_size=4, num_groups=9)
        sums[:, group : group + share.shape[1]] += share
    assert torch.allclose(sums, averages, atol=1e-6)
