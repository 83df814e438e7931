from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.frontends.framing import cmvn
from auricle.inference.session import Measuring, fixed
from auricle.inference.stages import RunningMoments, StreamCmvn, StreamGroupNorm, running
from auricle.nn.norms import UtteranceGroupNorm


def frames(seed: int = 0, offset: float = 0.0) -> Tensor:
    return torch.randn(1, 6, 40, generator=torch.Generator().manual_seed(seed)) + offset


def group_norm(num_groups: int) -> UtteranceGroupNorm:
    torch.manual_seed(1)
    norm = UtteranceGroupNorm(num_groups=num_groups, dim=6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm.requires_grad_(False)


@pytest.mark.parametrize("num_groups", [1, 2, 6])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_running_group_norm_is_the_norm_of_all_frames_so_far(
    num_groups: int, offset: float
) -> None:
    norm, x = group_norm(num_groups), frames(offset=offset)
    result = running(StreamGroupNorm.of(norm))(x)
    for end in range(1, 41):
        expected = norm(x[:, :, :end], [end])[:, :, -1]
        torch.testing.assert_close(result[:, :, end - 1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, -16.0])
def test_running_cmvn_is_that_of_all_frames_so_far(offset: float) -> None:
    x = frames(offset=offset)
    x[:, 2] = -15.9  # constant throughout
    x[:, 3, :20] = 0.1  # constant at first
    result = running(StreamCmvn(dim=6, epsilon=1e-10))(x)
    assert torch.equal(result[:, :, 0], torch.zeros(1, 6))
    for end in range(2, 41):
        expected = cmvn(x[0, :, :end], time_dim=1, epsilon=1e-10)[:, -1]
        torch.testing.assert_close(result[0, :, end - 1], expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(result[0, 2], torch.zeros(40))
    assert torch.equal(result[0, 3, :20], torch.zeros(20))
    assert result[0, 3, 20].abs() > 1


def test_epsilon_is_added_to_the_deviation() -> None:
    x = frames()
    plain, damped = (running(StreamCmvn(dim=6, epsilon=e))(x) for e in (0.0, 1.0))
    std = x[0].std(1)
    torch.testing.assert_close(damped[0, :, -1], plain[0, :, -1] * std / (std + 1.0))


@pytest.mark.parametrize("norm", [StreamGroupNorm(num_groups=2), StreamCmvn(dim=6, epsilon=0.0)])
def test_cuts_do_not_matter(norm: StreamGroupNorm | StreamCmvn) -> None:
    x = frames()
    whole = running(norm)(x)
    for size in (1, 7, 39):
        function = running(norm)
        parts = [function(part) for part in x.split(size, dim=2)]
        assert function(x[:, :, :0]).shape == (1, 6, 0)
        torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=1e-6, atol=1e-6)


def test_a_constant_beside_an_outlier_keeps_its_variance() -> None:
    x = torch.full((1, 1, 100_000), 0.1)
    x[0, 0, 0] = 100.0
    moments = RunningMoments(StreamGroupNorm(num_groups=1)).push(x)
    expected = x.double().var(correction=0)
    torch.testing.assert_close(moments.variance[0, -1], expected, rtol=1e-6, atol=0)


def test_an_offset_takes_no_digits_from_the_variance() -> None:
    x = 1000.0 + 1e-3 * frames()
    moments = RunningMoments(StreamGroupNorm(num_groups=6)).push(x)
    expected = x[0].double().var(1, correction=0)
    torch.testing.assert_close(moments.variance[:, -1], expected, rtol=1e-6, atol=0)


def test_what_is_constant_has_no_variance() -> None:
    for value in (0.1, -15.942385, 1e-5):
        moments = RunningMoments(StreamCmvn(dim=3, epsilon=0.0)).push(
            torch.full((1, 3, 999), value)
        )
        assert torch.equal(moments.variance, torch.zeros(3, 999, dtype=torch.float64))


@pytest.mark.parametrize("num_groups", [1, 3, 6])
def test_by_its_own_moments_a_fixed_norm_is_the_norm_of_the_whole(num_groups: int) -> None:
    norm, x = group_norm(num_groups), frames(offset=3.0)
    ours = StreamGroupNorm.of(norm)
    measuring = Measuring(ours)
    for part in x.split(11, dim=2):
        assert measuring(part) is part
    measuring(x[:, :, :0])
    assert measuring.moments is not None
    assert measuring.moments.mean.shape == (num_groups, 1)
    function = fixed(ours, measuring.moments)
    result = torch.cat([function(part) for part in x.split(13, dim=2)], dim=2)
    torch.testing.assert_close(result, norm(x, [40]), rtol=1e-5, atol=1e-5)


def test_by_its_own_moments_fixed_cmvn_is_that_of_the_whole() -> None:
    x = frames()
    x[:, 2] = 5.0
    norm = StreamCmvn(dim=6, epsilon=1e-10)
    measuring = Measuring(norm)
    measuring(x)
    assert measuring.moments is not None
    result = fixed(norm, measuring.moments)(x)
    torch.testing.assert_close(result[0], cmvn(x[0], time_dim=1, epsilon=1e-10))
    assert fixed(norm, measuring.moments)(x[:, :, :0]).shape == (1, 6, 0)


def test_results_have_the_type_of_the_frames() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        x = frames().to(dtype)
        assert running(StreamGroupNorm.of(group_norm(2)))(x).dtype == dtype
        assert running(StreamCmvn(dim=6, epsilon=0.0))(x).dtype == dtype
