from __future__ import annotations

import torch

from auricle.nn.packing import Packing


def test_a_ragged_batch_loses_its_padding_and_gets_zeros_back() -> None:
    packing = Packing([2, 4, 1])
    x = torch.arange(1.0, 25.0).view(3, 4, 2)
    row = packing.pack(x)
    assert row.shape == (1, 7, 2)
    assert [row[0, one].tolist() for one in packing.slices] == [
        x[0, :2].tolist(),
        x[1].tolist(),
        x[2, :1].tolist(),
    ]
    expected = x.clone()
    expected[0, 2:], expected[2, 1:] = 0, 0
    assert torch.equal(packing.unpack(row), expected)
    assert packing.boundaries(torch.device("cpu")).tolist() == [0, 2, 6, 7]
    assert packing.boundaries(torch.device("cpu")).dtype == torch.int32


def test_a_batch_without_padding_is_not_copied() -> None:
    for x in (torch.zeros(3, 4, 2), torch.zeros(1, 4, 2)):
        packing = Packing([4] * len(x))
        row = packing.pack(x)
        assert row.shape == (1, 4 * len(x), 2)
        assert row.data_ptr() == x.data_ptr()
        assert packing.unpack(row).data_ptr() == x.data_ptr()
        assert packing.unpack(row).shape == x.shape


def test_frames_that_none_has_are_left_out() -> None:
    packing = Packing([2, 3])
    row = packing.pack(torch.ones(2, 5, 1))
    assert row.shape == (1, 5, 1)
    assert packing.unpack(row).tolist() == [[[1], [1], [0]], [[1], [1], [1]]]
