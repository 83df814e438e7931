from __future__ import annotations

import math

import pytest
import torch

from auricle.nn.norms import ChannelNorm


def test_variance_is_unbiased_and_affine_per_channel() -> None:
    norm = ChannelNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1))
        norm.bias.copy_(torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1))
    frame = [1.0, 2.0, 6.0]  # mean 3, squared deviations 4, 1, 9
    scale = 1 / math.sqrt(14 / 2 + 1e-5)
    expected = [-2 * scale, -scale * 2 + 0.5, 3 * scale * 3 + 1]
    x = torch.tensor([frame, [5.0, 5.0, 5.0]]).T.unsqueeze(0)
    output = norm(x)
    assert output[0, :, 0].tolist() == pytest.approx(expected, rel=1e-6)
    assert output[0, :, 1].tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_types(dtype: torch.dtype) -> None:
    # Near 200 bfloat16 has whole numbers only: in it the mean of these would be 200.
    frame = torch.tensor([200.0] * 6 + [202.0] * 2, dtype=torch.float64)
    expected = (frame - 200.5) / (frame.var() + 1e-5).sqrt()
    output = ChannelNorm(8).to(dtype)(frame.to(dtype).view(1, 8, 1))
    assert output.dtype == dtype
    assert output.flatten().tolist() == pytest.approx(expected.tolist(), rel=1e-2)
