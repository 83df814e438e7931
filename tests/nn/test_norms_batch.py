from __future__ import annotations

import pytest
import torch
from torch import nn

from auricle.errors import AudioError
from auricle.nn.norms import BatchNorm, over_valid_frames

LENGTHS = [2, 5, 1]


def batch() -> torch.Tensor:
    """Frames (3, 4, 5) with what must not count past their true ends."""
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    for row, length in zip(x, LENGTHS, strict=True):
        row[:, length:] = 1e6
    return x


def true_frames(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([row[:, :length].T for row, length in zip(x, LENGTHS, strict=True)])


@pytest.mark.parametrize("affine", [True, False])
def test_in_training_it_is_the_norm_of_the_true_frames(affine: bool) -> None:
    norm, expected = BatchNorm(4, affine=affine), nn.BatchNorm1d(4, affine=affine)
    x, y = (batch().requires_grad_() for _ in range(2))
    for _ in range(2):
        output, frames = norm(x, LENGTHS), expected(true_frames(y))
    torch.testing.assert_close(true_frames(output), frames)
    assert output.shape == x.shape
    assert output.isfinite().all()
    assert norm.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[name], value, msg=name)
    (true_frames(output) ** 3).sum().backward()
    (frames**3).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_in_evaluation_and_without_padding_it_is_torchs_own() -> None:
    norm, expected = BatchNorm(4), nn.BatchNorm1d(4)
    x = batch()
    assert torch.equal(norm(x, [5] * 3), expected(x))
    assert torch.equal(norm.eval()(x, LENGTHS), expected.eval()(x))


def test_all_rows_may_be_longer_than_their_true_frames() -> None:
    x = torch.randn(2, 4, 9)
    x[:, :, 3:] = 1e6
    torch.testing.assert_close(BatchNorm(4)(x, [3, 3])[:, :, :3], nn.BatchNorm1d(4)(x[:, :, :3]))


def test_a_lone_frame_has_no_variance() -> None:
    with pytest.raises(AudioError, match=r"one frame in all.*encoder\.eval\(\)"):
        BatchNorm(4)(torch.randn(1, 4, 5), [1])
    BatchNorm(4).eval()(torch.randn(1, 4, 5), [1])


def test_a_norm_of_torch_in_its_place_sees_true_frames_alone() -> None:
    ours, theirs = BatchNorm(4), nn.BatchNorm1d(4)
    for _ in range(2):
        expected = over_valid_frames(ours, batch(), LENGTHS)
        assert torch.allclose(over_valid_frames(theirs, batch(), LENGTHS), expected, atol=1e-6)
        assert torch.allclose(ours.running_var, theirs.running_var)
        ours.eval(), theirs.eval()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_stays(dtype: torch.dtype) -> None:
    assert BatchNorm(4).to(dtype)(batch().to(dtype), LENGTHS).dtype == dtype
