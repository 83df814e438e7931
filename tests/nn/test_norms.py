from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from auricle.nn import norms
from auricle.nn.norms import UtteranceGroupNorm, UtteranceStatistics, masked_group_norm

LENGTHS = [200, 50, 7]


@pytest.fixture
def affine() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(8), torch.randn(8)


@pytest.mark.parametrize("num_groups", [1, 2, 8])
@pytest.mark.parametrize("offset", [0.0, 0.05, 100.0])
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_each_row_is_normalised_as_alone(
    affine: tuple[torch.Tensor, torch.Tensor], num_groups: int, offset: float, scale: float
) -> None:
    weight, bias = affine
    x = scale * torch.randn(3, 8, 200) + offset
    result = masked_group_norm(x, LENGTHS, num_groups=num_groups, weight=weight, bias=bias)
    assert result.dtype == x.dtype
    for row, normalised, length in zip(x, result, LENGTHS, strict=True):
        true_frames = row[None, :, :length].double()
        expected = F.group_norm(true_frames, num_groups, weight.double(), bias.double())[0]
        assert torch.allclose(normalised[:, :length].double(), expected, atol=2e-6)
        past_the_end = bias[:, None].expand(-1, 200 - length)
        assert torch.allclose(normalised[:, length:], past_the_end, atol=1e-2)


def test_blocks_of_a_sum_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 8, 200)
    whole = masked_group_norm(x, LENGTHS, num_groups=2)
    monkeypatch.setattr(norms, "CPU_BLOCK_ELEMENTS", 3 * 8 * 7)
    assert torch.allclose(masked_group_norm(x, LENGTHS, num_groups=2), whole, atol=1e-6)


def test_what_is_constant_becomes_exactly_zero() -> None:
    x = torch.tensor([0.1, -3.3, 1e-4]).view(1, 3, 1).repeat(2, 1, 777)
    assert masked_group_norm(x, [777, 333], num_groups=3).abs().max() == 0.0


def test_epsilon_is_added_to_the_variance() -> None:
    x = torch.tensor([[[1.0, -1.0]]])
    assert torch.equal(masked_group_norm(x, [2], num_groups=1, eps=3.0), x / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_statistics_keep_their_precision_in_other_types(dtype: torch.dtype) -> None:
    x = (300 * torch.randn(2, 4, 3_000) + 100.0).to(dtype)  # squares that float16 cannot hold
    result = masked_group_norm(x, [3_000, 2_000], num_groups=1)
    expected = F.group_norm(x[:1].double(), 1)
    assert result.dtype == dtype
    tolerance = 1e-10 if dtype == torch.float64 else 4 * torch.finfo(dtype).eps
    assert torch.allclose(result[:1].double(), expected, rtol=tolerance, atol=tolerance)


def test_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    norm = UtteranceGroupNorm(num_groups=2, dim=4).double()
    x = torch.randn(2, 4, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: norm(x, [9, 5]), x)


def test_gradients_do_not_change_the_numbers() -> None:
    x = torch.randn(2, 4, 50)
    with_gradients = masked_group_norm(x.clone().requires_grad_(True), [50, 20], num_groups=1)
    with torch.no_grad():
        assert torch.equal(masked_group_norm(x, [50, 20], num_groups=1), with_gradients)


def test_a_norm_without_scale_and_shift_has_no_weights() -> None:
    norm = UtteranceGroupNorm(num_groups=1, dim=4, affine=False)
    x = torch.randn(1, 4, 50)
    assert not norm.state_dict()
    assert torch.allclose(norm(x, [50]), F.group_norm(x, 1), atol=1e-6)


def map_chunks(x: torch.Tensor, norm: UtteranceGroupNorm, size: int) -> torch.Tensor:
    statistics = UtteranceStatistics(len(x), norm.num_groups, x.device)
    starts = range(0, x.shape[2], size)
    with torch.no_grad():
        for start in starts:
            rows = [row for row, length in enumerate(LENGTHS) if length > start]
            lengths = [min(LENGTHS[row] - start, size, x.shape[2] - start) for row in rows]
            statistics.add(x[rows, :, start : start + size], lengths, rows)
        terms = statistics.terms(norm, torch.float32)
        return torch.cat([terms(x[:, :, s : s + size], range(len(x))) for s in starts], dim=2)


@pytest.mark.parametrize("num_groups", [1, 2, 8])
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("size", [1, 7, 64, 200])
def test_statistics_of_stretches_are_those_of_the_whole(
    num_groups: int, offset: float, size: int
) -> None:
    torch.manual_seed(0)
    norm = UtteranceGroupNorm(num_groups=num_groups, dim=8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 8, 200) * torch.linspace(0.1, 2, 200) + offset
    whole, stretched = norm(x, LENGTHS), map_chunks(x, norm, size)
    for row, other, length in zip(whole, stretched, LENGTHS, strict=True):
        assert torch.allclose(row[:, :length], other[:, :length], atol=2e-6 + 1e-7 * offset)


@pytest.mark.parametrize("constant", [0.0, 0.05, 1e4, -1 / 3])
def test_stretches_of_a_constant_have_no_variance(constant: float) -> None:
    norm = UtteranceGroupNorm(num_groups=1, dim=8)
    assert not map_chunks(torch.full((3, 8, 200), constant), norm, 33).any()
