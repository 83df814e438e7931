from __future__ import annotations

import torch

from auricle.nn.padding import pad_waveforms, padding_mask, zero_padding

CPU = torch.device("cpu")


def test_a_batch_without_padding_has_no_mask() -> None:
    assert padding_mask([3, 3], 3, CPU) is None


def test_the_mask_is_true_on_padding() -> None:
    mask = padding_mask([3, 1], 3, CPU)
    assert mask is not None
    assert mask.tolist() == [[False, False, False], [False, True, True]]
    # One utterance may be padded, too.
    alone = padding_mask([2], 3, CPU)
    assert alone is not None
    assert alone.tolist() == [[False, False, True]]


def test_padding_becomes_zero_whatever_it_held() -> None:
    mask = padding_mask([2, 1], 2, CPU)
    x = torch.tensor([[[1.0, 2.0]], [[3.0, float("nan")]]])
    assert zero_padding(x, mask, time_dim=2).tolist() == [[[1.0, 2.0]], [[3.0, 0.0]]]
    assert zero_padding(x.transpose(1, 2), mask, time_dim=1)[1].tolist() == [[3.0], [0.0]]
    assert zero_padding(x, None, time_dim=2) is x


def test_waveforms_are_padded_on_the_right() -> None:
    padded = pad_waveforms([torch.ones(1), torch.ones(3)])
    assert padded.tolist() == [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
