from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from auricle.nn.layers import MAX_DEPTH, attend_dropping, check_depth, dropout


def test_depths() -> None:
    check_depth(1)
    check_depth(MAX_DEPTH)
    for wrong in (0, -1, MAX_DEPTH + 1):
        with pytest.raises(ValueError, match=f"but has {wrong}"):
            check_depth(wrong)


def test_dropout_keeps_and_scales_values_by_torchs_generator() -> None:
    x = torch.ones(200, 513, requires_grad=True)
    torch.manual_seed(0)
    dropped = dropout(x, 0.25, True)
    kept = dropped > 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=5e-3)
    assert torch.equal(dropped[kept], torch.full_like(dropped[kept], 1 / 0.75))
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())
    assert not torch.equal(dropout(x, 0.25, True), dropped)
    torch.manual_seed(0)
    assert torch.equal(dropout(x, 0.25, True), dropped)


def test_dropout_of_nothing_is_the_input() -> None:
    x = torch.ones(3)
    assert dropout(x, 0.0, True) is x
    assert dropout(x, 0.5, False) is x
    assert torch.equal(dropout(x, 1.0, True), torch.zeros(3))


def test_attention_drops_weights_and_scales_the_rest() -> None:
    query, key = torch.randn(2, 1, 2, 40, 8)
    mask = torch.rand(1, 1, 1, 40) < 0.8
    value = torch.eye(40).expand(1, 2, 40, 40)  # so that contexts are the weights
    weights = F.scaled_dot_product_attention(query, key, value, mask)
    dropped = attend_dropping(query, key, value, mask, 0.5)
    kept = dropped > 0
    torch.testing.assert_close(dropped[kept], 2 * weights[kept])
    assert 0.3 < kept.sum() / (weights > 0).sum() < 0.7
    biased = attend_dropping(query, key, value, torch.where(mask, 0.0, -torch.inf), 0.5)
    assert not biased[..., ~mask.flatten()].any()
