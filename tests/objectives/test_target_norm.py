from __future__ import annotations

import torch

from auricle.objectives.target_norm import RunningNorm


def test_statistics_are_those_of_all_frames_so_far() -> None:
    norm = RunningNorm(3)
    x = 5 + 2 * torch.randn(4, 50, 3, generator=torch.Generator().manual_seed(0))
    x[3] *= 10
    norm(x[:1])
    norm(x[1:3])
    last = norm(x[3:])
    seen = x.flatten(0, 1)
    torch.testing.assert_close(norm.mean, seen.mean(dim=0))
    torch.testing.assert_close(norm.variance, seen.var(dim=0, correction=0))
    expected = (x[3:] - seen.mean(dim=0)) / seen.std(dim=0, correction=0)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    assert norm.count == 200


def test_evaluation_leaves_them_alone() -> None:
    norm = RunningNorm(2)
    norm(torch.tensor([[0.0, 7.0], [2.0, 7.0]]))
    norm.eval()
    assert norm(torch.tensor([[3.0, 7.0]])).tolist() == [[2.0, 0.0]]
    assert norm.count == 2
    fresh = RunningNorm(2)
    fresh.load_state_dict(norm.state_dict())
    assert torch.equal(fresh.eval()(torch.ones(1, 2)), norm(torch.ones(1, 2)))
