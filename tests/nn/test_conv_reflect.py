from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from auricle.nn.conv import reflect_pad


@pytest.mark.parametrize(("left", "right"), [(4, 5), (5, 5), (0, 0), (0, 1)])
@pytest.mark.parametrize("lengths", [(6, 9, 20, 7), (20, 20, 20, 20), (6, 20, 19, 20)])
@pytest.mark.parametrize("has_gradients", [True, False])
def test_each_row_is_padded_at_its_own_ends(
    left: int, right: int, lengths: tuple[int, ...], has_gradients: bool
) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 20)
    with torch.set_grad_enabled(has_gradients):
        padded = reflect_pad(x, lengths, left=left, right=right)
    assert padded.shape == (4, 3, left + 20 + right)
    for row, output, length in zip(x, padded, lengths, strict=True):
        alone = F.pad(row[:, :length], (left, right), mode="reflect")
        assert torch.equal(output[:, : left + length + right], alone)


def test_gradients_reach_mirrored_frames_and_no_padding() -> None:
    x = torch.randn(2, 1, 8, requires_grad=True)
    lengths = (5, 8)
    padded = reflect_pad(x, lengths, left=2, right=3)
    (padded[0, 0, : 2 + 5 + 3].sum() + padded[1].sum()).backward()
    assert x.grad is not None
    # Frames 1 and 2 are mirrored on the left, the three before the last on the right.
    assert x.grad[0, 0].tolist() == [1, 3, 3, 2, 1, 0, 0, 0]
    assert x.grad[1, 0].tolist() == [1, 2, 2, 1, 2, 2, 2, 1]
