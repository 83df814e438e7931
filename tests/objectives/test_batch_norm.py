from __future__ import annotations

import torch
from torch import nn

from auricle.objectives.batch_norm import norm_of_true_frames


def test_statistics_never_see_padding() -> None:
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    x[1, :, 2:] = 1e6
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    norm, alone = nn.BatchNorm1d(3).train(), nn.BatchNorm1d(3).train()
    actual = norm_of_true_frames(norm, x, padding)
    true = torch.cat([x[0], x[1, :, :2]], dim=1)  # (C, frames of both)
    expected = alone(true.T).T
    torch.testing.assert_close(actual[0], expected[:, :5])
    torch.testing.assert_close(actual[1, :, :2], expected[:, 5:])
    assert torch.count_nonzero(actual[1, :, 2:]) == 0
    torch.testing.assert_close(norm.running_mean, alone.running_mean)


def test_without_padding_it_is_the_norm_itself() -> None:
    x = torch.randn(2, 3, 5)
    assert torch.equal(norm_of_true_frames(nn.BatchNorm1d(3), x, None), nn.BatchNorm1d(3)(x))
