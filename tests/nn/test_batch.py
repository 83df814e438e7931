from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.info import FrameGeometry, Window
from auricle.nn.batch import (
    Batch,
    Layout,
    as_ints,
    as_tensor,
    frames_of,
    pad_rows,
    padding_mask,
    zero_padding,
)

CPU = torch.device("cpu")


def test_a_batch_without_padding_has_no_mask() -> None:
    assert padding_mask([3, 3], 3, CPU) is None


@pytest.mark.parametrize("lengths", [[3, 1], torch.tensor([3, 1])], ids=["ints", "tensor"])
def test_the_mask_is_true_on_padding(lengths: list[int] | Tensor) -> None:
    mask = padding_mask(lengths, 3, CPU)
    assert mask is not None
    assert mask.tolist() == [[False, False, False], [False, True, True]]
    # One utterance may be padded, too.
    alone = padding_mask(lengths[1:], 3, CPU)
    assert alone is not None
    assert alone.tolist() == [[False, True, True]]
    layout = Layout(lengths)
    x = torch.zeros(2, 3, 1)
    assert torch.equal(layout.padding(x), mask)
    assert layout.padding(x) is layout.padding(x)


def test_padding_becomes_zero_whatever_it_held() -> None:
    mask = padding_mask([2, 1], 2, CPU)
    x = torch.tensor([[[1.0, 2.0]], [[3.0, float("nan")]]])
    assert zero_padding(x, mask, time_dim=2).tolist() == [[[1.0, 2.0]], [[3.0, 0.0]]]
    assert zero_padding(x.transpose(1, 2), mask, time_dim=1)[1].tolist() == [[3.0], [0.0]]
    assert zero_padding(x, None, time_dim=2) is x


def test_rows_are_padded_on_the_right() -> None:
    padded = Batch.of([torch.ones(1), torch.ones(3)])
    assert padded.values.tolist() == [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    assert padded.lengths == [1, 3]
    row = torch.ones(3)
    assert Batch.of([row]).values.data_ptr() != row.data_ptr()
    assert pad_rows([row]).data_ptr() == row.data_ptr()


def test_lengths_that_are_a_tensor_stay_one() -> None:
    lengths = torch.tensor([40, 9])
    geometry = FrameGeometry((Window(size=10, stride=5),))
    assert as_tensor(lengths, CPU) is lengths
    frames = frames_of(geometry, lengths)
    assert isinstance(frames, Tensor)
    assert as_ints(frames) == frames_of(geometry, [40, 9]) == [7, 0]


def test_packed_and_padded_rows_are_the_same_views() -> None:
    x = torch.arange(1.0, 25.0).view(3, 4, 2)
    lengths = [2, 4, 1]
    layout = Layout(lengths, is_packed=True)
    packed = Batch(layout.pack(x), layout)
    assert packed.values.shape == (1, 7, 2)
    padded = Batch.padded(x, lengths)
    for ours, theirs in zip(packed.rows(), padded.rows(), strict=True):
        assert torch.equal(ours, theirs)
    assert packed.rows()[0].data_ptr() == packed.values.data_ptr()
    assert padded.rows()[0].data_ptr() == x.data_ptr()
    expected = x.clone()
    expected[0, 2:], expected[2, 1:] = 0, 0
    assert torch.equal(packed.to_padded().values, expected)
    assert padded.to_padded() is padded
    assert layout.boundaries(CPU).tolist() == [0, 2, 6, 7]
    assert layout.boundaries(CPU).dtype == torch.int32


def test_what_has_no_padding_is_packed_without_a_copy() -> None:
    for x in (torch.zeros(3, 4, 2), torch.zeros(1, 4, 2)):
        row = Layout([4] * len(x), is_packed=True).pack(x)
        assert row.data_ptr() == x.data_ptr()
        assert row.shape == (1, 4 * len(x), 2)


def test_frames_that_no_utterance_has_are_not_packed() -> None:
    layout = Layout([2, 3], is_packed=True)
    row = layout.pack(torch.ones(2, 5, 1))
    assert row.shape == (1, 5, 1)
    assert Batch(row, layout).to_padded().values.tolist() == [[[1], [1], [0]], [[1], [1], [1]]]
