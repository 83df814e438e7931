from __future__ import annotations

import torch

from auricle.objectives.base import masked_mean


def test_masked_mean() -> None:
    x = torch.tensor([[1.0, 3.0], [float("nan"), 5.0]])
    assert masked_mean(x, torch.tensor([[1, 1], [0, 1]])).item() == 3.0
    assert masked_mean(x, torch.tensor([[0.0, 0.0], [0.0, 0.0]])).item() == 0.0
    assert masked_mean(x, torch.tensor([[True], [False]])).item() == 2.0
    x.requires_grad_()
    masked_mean(x, torch.tensor([[True], [False]])).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.5, 0.5], [0.0, 0.0]]
