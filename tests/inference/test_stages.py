from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from auricle.inference.stages import PerFrame, Recurrent, StreamWindows, convolved
from auricle.info import Window
from streams import kept_bytes

PADDINGS: tuple[Literal["zeros", "first"], ...] = ("zeros", "first")


@given(
    size=st.integers(1, 6),
    stride=st.integers(1, 8),
    paddings=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    padding=st.sampled_from(PADDINGS),
    num_inputs=st.integers(1, 40),
    min_inputs=st.sampled_from([1, 9]),
    cuts=st.lists(st.integers(0, 40), max_size=6),
)
def test_windows_are_those_of_the_whole(
    size: int, stride: int, paddings: tuple[int, int], padding: Literal["zeros", "first"],
    num_inputs: int, min_inputs: int, cuts: list[int],
) -> None:  # fmt: skip
    x = torch.randn(1, 2, num_inputs)
    left, right = paddings
    before = x[:, :, :1].expand(-1, -1, left) if padding == "first" else x.new_zeros(1, 2, left)
    whole = F.pad(torch.cat([before, x], dim=2), (0, right))
    has_any = whole.shape[2] >= size
    expected = whole.unfold(2, size, stride) if has_any else whole.new_zeros(1, 2, 0, size)
    windows = StreamWindows(
        Window(size=size, stride=stride, pad_left=left, pad_right=right),
        padding=padding,
        min_inputs=min_inputs,
    )
    borders = sorted({0, num_inputs, *(min(cut, num_inputs) for cut in cuts)})
    outputs = [windows(x[:, :, a:b], is_last=False) for a, b in pairwise(borders)]
    outputs.append(windows(x[:, :, :0], is_last=True))
    given_windows = [part.unfold(2, size, stride) for part in outputs if part.shape[2]]
    result = torch.cat([expected[:, :, :0], *given_windows], dim=2)
    assert torch.equal(result, expected)
    if min_inputs > num_inputs:
        assert all(part.shape[2] == 0 for part in outputs[:-1])


def test_padding_alone_makes_no_windows() -> None:
    windows = StreamWindows(Window(size=2, pad_left=3, pad_right=3))
    assert windows(torch.zeros(1, 1, 0), is_last=False).shape == (1, 1, 0)
    assert windows(torch.zeros(1, 1, 0), is_last=True).shape == (1, 1, 0)


def test_no_more_is_kept_than_windows_need_and_never_the_callers_memory() -> None:
    windows = StreamWindows(Window(size=10, stride=3))
    x = torch.randn(1, 1, 10_000)
    windows(x, is_last=False)
    assert kept_bytes(windows) <= 10 * 4
    expected = x[0, 0, -7:].clone()
    x.zero_()
    assert torch.equal(windows(torch.ones(1, 1, 3), is_last=False)[0, 0, :7], expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (4, 2), (3, 5)])
def test_convolutions_are_torchs(bias: bool, size: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(3, 5, size, stride, padding=1, bias=bias)
    x = torch.randn(1, 3, size + 11 * stride)
    expected = F.conv1d(x, conv.weight, conv.bias, stride)
    with torch.inference_mode():
        torch.testing.assert_close(convolved(conv, x), expected)
        assert convolved(conv, x[:, :, :0]).shape == (1, 5, 0)
        assert convolved(conv, x.double()).dtype == torch.float64


def test_a_frame_comes_out_alike_alone_and_among_many() -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(64, 64, 4, 2, bias=False)
    x: Tensor = torch.randn(1, 64, 402)
    with torch.inference_mode():
        whole = convolved(conv, x)
        for num_frames in (1, 2, 3, 5):
            few = convolved(conv, x[:, :, 20 : 20 + 2 * num_frames + 2])
            torch.testing.assert_close(few, whole[:, :, 10 : 10 + num_frames], rtol=0, atol=2e-6)


def test_per_frame_stages_apply_their_function() -> None:
    stage = PerFrame(lambda x: x + 1)
    assert torch.equal(stage(torch.zeros(1, 2, 3), is_last=False), torch.ones(1, 2, 3))


@pytest.mark.parametrize("rnn_type", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("residual", [False, True])
def test_recurrence_goes_on_where_it_was(rnn_type: type[nn.RNNBase], residual: bool) -> None:
    torch.manual_seed(0)
    rnn = rnn_type(4, 4, num_layers=2, batch_first=True)
    x = torch.randn(1, 4, 30)
    with torch.inference_mode():
        expected = rnn(x.transpose(1, 2))[0].transpose(1, 2)
        expected = expected + x if residual else expected
        stage = Recurrent(rnn, residual=residual)
        parts = [stage(part, is_last=False) for part in x.split([1, 0, 7, 22], dim=2)]
        parts.append(stage(x[:, :, :0], is_last=True))
    torch.testing.assert_close(torch.cat(parts, dim=2), expected)
