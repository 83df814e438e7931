from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn import convolution
from auricle.nn.convolution import LONE_KERNEL_ELEMENTS, convolve
from auricle.nn.waveform_activations import WAVEFORM_ACTIVATIONS, WaveformActivation


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_rows", [1, 2])
def test_it_is_the_convolution(num_rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(3, 4, 5, stride=2, padding=2, bias=bias)
    x = torch.randn(num_rows, 3, 30)
    assert torch.allclose(convolve(conv, x), conv(x), atol=1e-6)


def test_it_computes_in_the_type_of_its_input() -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(3, 4, 5)
    x = torch.randn(1, 3, 30, dtype=torch.float64)
    output = convolve(conv, x)
    assert output.dtype == torch.float64
    assert torch.allclose(output, conv.double()(x), atol=1e-14)


def test_a_short_lone_row_goes_through_the_kernel_of_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = []

    def record(x: Tensor, *args: object) -> Tensor:
        rows.append(x.shape[0])
        return x

    monkeypatch.setattr(F, "conv1d", record)
    assert convolution.F is F
    conv = nn.Conv1d(1, 1, 1)
    lengths = (10, LONE_KERNEL_ELEMENTS, LONE_KERNEL_ELEMENTS + 1)
    outputs = [convolve(conv, torch.zeros(1, 1, length)) for length in lengths]
    assert rows == [2, 2, 1]
    assert all(output.shape[0] == 1 for output in outputs)


@pytest.mark.parametrize("activation", [None, "gelu", "relu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("num_rows", "padding"), [(1, 0), (1, 2), (3, 2)])
def test_inference_is_the_convolution_frame_after_frame(
    num_rows: int, padding: int, bias: bool, activation: WaveformActivation | None
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(3, 4, 5, stride=2, padding=padding, bias=bias)
    x = torch.randn(num_rows, 3, 31)
    expected = conv(x)
    if activation is not None:
        expected = WAVEFORM_ACTIVATIONS[activation](expected)
    with torch.no_grad():
        output = convolve(conv, x, activation)
        part = convolve(conv, x.transpose(1, 2).contiguous().transpose(1, 2)[:, :, 7:], activation)
        alone = convolve(conv, x[:, :, 7:].clone(), activation)
    assert torch.allclose(output, expected, atol=1e-6)
    assert output.transpose(1, 2).is_contiguous()
    assert torch.equal(part, alone)  # a view of what lies there already
