from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.conv import LONE_KERNEL_ELEMENTS, Conv1d

OPTIONS: dict[str, dict[str, Any]] = {
    "bias": {},
    "no bias": {"bias": False},
    "stride": {"stride": 2, "padding": 2},
    "dilation": {"dilation": 2, "padding": 1},
    "groups": {"groups": 3},
    "mirrored": {"padding": 2, "padding_mode": "reflect"},
    "same": {"padding": "same"},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("num_rows", [1, 2])
@pytest.mark.parametrize("has_gradients", [True, False])
def test_it_is_the_convolution(num_rows: int, name: str, has_gradients: bool) -> None:
    torch.manual_seed(0)
    conv = Conv1d(3, 6, 5, **OPTIONS[name])
    x = torch.randn(num_rows, 3, 30)
    with torch.set_grad_enabled(has_gradients):
        assert torch.allclose(conv(x), nn.Conv1d.forward(conv, x), atol=1e-6)


def test_it_computes_in_the_type_of_its_input() -> None:
    torch.manual_seed(0)
    conv = Conv1d(3, 4, 5)
    x = torch.randn(1, 3, 30, dtype=torch.float64)
    output = conv(x)
    assert output.dtype == torch.float64
    assert torch.allclose(output, nn.Conv1d.forward(conv.double(), x), atol=1e-14)


def test_a_short_lone_row_goes_through_the_kernel_of_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = []

    def record(x: Tensor, *args: object) -> Tensor:
        rows.append(x.shape[0])
        return x

    conv = Conv1d(1, 1, 1)
    monkeypatch.setattr(conv, "_conv_forward", record)
    lengths = (10, LONE_KERNEL_ELEMENTS, LONE_KERNEL_ELEMENTS + 1)
    outputs = [conv(torch.zeros(1, 1, length)) for length in lengths]
    assert rows == [2, 2, 1]
    assert all(output.shape[0] == 1 for output in outputs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("num_rows", "padding"), [(1, 0), (1, 2), (3, 2)])
def test_inference_is_the_convolution_frame_after_frame(
    num_rows: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(0)
    conv = Conv1d(3, 4, 5, stride=2, padding=padding, bias=bias)
    x = torch.randn(num_rows, 3, 31)
    expected = nn.Conv1d.forward(conv, x)
    with torch.no_grad():
        output = conv(x)
        part = conv(x.transpose(1, 2).contiguous().transpose(1, 2)[:, :, 7:])
        alone = conv(x[:, :, 7:].clone())
    assert torch.allclose(output, expected, atol=1e-6)
    assert output.transpose(1, 2).is_contiguous()
    assert torch.equal(part, alone)  # a view of what lies there already


@pytest.mark.parametrize(("size", "stride"), [(3, 2), (4, 2), (2, 3), (5, 1), (1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_trained_products_are_the_convolution_and_its_gradients(
    size: int, stride: int, bias: bool
) -> None:
    torch.manual_seed(0)
    conv = Conv1d(3, 4, size, stride, bias=bias).double()
    frames = torch.randn(18, 3, dtype=torch.float64, requires_grad=True)

    def gradients(output: Tensor) -> tuple[Tensor, ...]:
        weights = torch.arange(output.numel()).view(output.shape).cos()
        return torch.autograd.grad((output * weights).sum(), [frames, *conv.parameters()])

    ours = conv.after(frames, F.gelu)
    expected = conv(F.gelu(frames).t().unsqueeze(0))[0].t()
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(gradients(ours), gradients(expected))
    frames.requires_grad_(False)
    torch.testing.assert_close(conv.after(frames, F.gelu), expected)
