from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from auricle.nn.attention import attend


@pytest.mark.parametrize("kind", ["all", "seen", "bias"])
@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)]
)
def test_it_is_the_formula(dtype: torch.dtype, atol: float, kind: str) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 9, 4).to(dtype) for _ in range(3))
    scores = query.double() @ key.double().transpose(2, 3) / 2
    mask = None
    if kind == "seen":
        mask = torch.rand(2, 1, 1, 9) < 0.7
        scores = scores.masked_fill(~mask, -torch.inf)
    elif kind == "bias":
        mask = torch.randn(2, 3, 9, 9).to(dtype)
        scores = scores + mask.double()
    expected = F.softmax(scores, dim=3) @ value.double()
    output = attend(query, key, value, mask)
    assert output.dtype == dtype
    assert torch.allclose(output.double(), expected, atol=atol, rtol=atol)
