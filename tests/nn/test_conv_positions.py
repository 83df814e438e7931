from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import FrameGeometry
from auricle.nn import conv_positions
from auricle.nn.batch import padding_mask, zero_padding
from auricle.nn.conv_positions import ConvPositionConfig, ConvPositions
from auricle.nn.cpu.policy import reference_kernels

DIM = 8
LENGTHS = [11, 1, 6]


def randomised(**options: Any) -> ConvPositions:
    generator = torch.Generator().manual_seed(1)
    config = ConvPositionConfig(num_groups=2, **options)
    positions = ConvPositions(config, dim=DIM, activation="gelu")
    with torch.no_grad():
        for tensor in positions.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return positions.eval()


def frames() -> Tensor:
    x = torch.randn(len(LENGTHS), max(LENGTHS), DIM, generator=torch.Generator().manual_seed(2))
    return zero_padding(x, padding_mask(LENGTHS, max(LENGTHS), x.device), time_dim=1)


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution (C, T) of `x` (C, T), padded at both ends, the last frame of an even kernel off."""
    kernel = weight.shape[2]
    return F.conv1d(x[None], weight, bias, padding=kernel // 2, groups=2)[0, :, : x.shape[1]]


def straight_line(positions: ConvPositions, utterance: Tensor) -> Tensor:
    """Positions (T, D) of one utterance (T, D)."""
    weights, x = positions.state_dict(), utterance.t()
    kind = positions.config.kind
    if kind == "weight_norm":
        conv = nn.Conv1d(DIM, DIM, positions.config.kernel_size, groups=2)
        conv = nn.utils.parametrizations.weight_norm(conv, dim=2)
        names = {
            "weight_g": "parametrizations.weight.original0",
            "weight_v": "parametrizations.weight.original1",
            "bias": "bias",
        }
        conv.load_state_dict({theirs: weights[f"convs.0.{ours}"] for ours, theirs in names.items()})
        return F.gelu(convolved(x, conv.weight, conv.bias)).t()
    if kind == "batch_norm":
        mean, variance = weights["batch_norm.running_mean"], weights["batch_norm.running_var"]
        x = (x.t() - mean) / (variance + 1e-5).sqrt()
        x = (x * weights["batch_norm.weight"] + weights["batch_norm.bias"]).t()
    for index in range(positions.config.depth):
        x = convolved(x, weights[f"convs.{index}.weight"], weights[f"convs.{index}.bias"])
        if kind == "stack":
            x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
        x = F.gelu(x)
    return x.t()


@pytest.mark.parametrize("kernel_size", [1, 4, 5])
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "weight_norm"},
        {"kind": "plain"},
        {"kind": "batch_norm"},
        {"kind": "stack", "depth": 1},
        {"kind": "stack", "depth": 3},
    ],
)
def test_each_utterance_as_alone(options: dict[str, Any], kernel_size: int) -> None:
    positions = randomised(kernel_size=kernel_size, **options)
    x = frames()
    with torch.no_grad():
        outputs = positions(x, padding_mask(LENGTHS, x.shape[1], x.device))
        for row, output, length in zip(x, outputs, LENGTHS, strict=True):
            expected = straight_line(positions, row[:length])
            torch.testing.assert_close(output[:length], expected, atol=1e-4, rtol=1e-4)
            (alone,) = positions(row[None, :length], None)
            torch.testing.assert_close(alone, expected, atol=1e-4, rtol=1e-4)


def test_batch_statistics_in_training_leave_padding_out() -> None:
    positions = randomised(kind="batch_norm", kernel_size=3)
    reference = nn.BatchNorm1d(DIM)
    reference.load_state_dict(positions.batch_norm.state_dict())
    x = frames()
    mask = padding_mask(LENGTHS, x.shape[1], x.device)
    assert mask is not None
    positions.train()(x, mask)
    reference(x[~mask])
    torch.testing.assert_close(positions.batch_norm.running_mean, reference.running_mean)
    torch.testing.assert_close(positions.batch_norm.running_var, reference.running_var)


def test_initial_norms_are_those_of_the_initial_weights() -> None:
    torch.manual_seed(0)
    conv = ConvPositions(ConvPositionConfig(kernel_size=4), dim=64, activation="gelu").convs[0]
    norms = conv.weight_v.square().sum((0, 1), keepdim=True).sqrt()
    torch.testing.assert_close(conv.weight_g, norms, rtol=0.2, atol=0)


def test_windows_keep_the_number_of_frames() -> None:
    for kernel_size, left in ((128, 64), (19, 9)):
        (window,) = ConvPositionConfig(kernel_size=kernel_size).windows
        assert (window.size, window.pad_left) == (kernel_size, left)
    config = ConvPositionConfig(kind="stack", kernel_size=19, depth=5)
    geometry = FrameGeometry(config.windows)
    assert [geometry.num_frames(n) for n in (0, 1, 50)] == [0, 1, 50]
    assert geometry.window_samples == 5 * 18 + 1


def test_configurations_that_do_not_hold_are_refused() -> None:
    for options in ({"kernel_size": 0}, {"num_groups": 0}, {"kind": "stack", "depth": 1001}):
        with pytest.raises(ValueError, match="positions must have"):
            ConvPositionConfig(**options)
    with pytest.raises(ValueError, match="weight_norm have a depth of 1, not 2"):
        ConvPositionConfig(depth=2)


@pytest.mark.parametrize("channels", [2, 12, 16])
@pytest.mark.parametrize("has_autocast", [True, False])
def test_few_channels_are_not_wrong_in_bfloat16(channels: int, has_autocast: bool) -> None:
    config = ConvPositionConfig(kernel_size=32, num_groups=2)
    torch.manual_seed(0)
    positions = ConvPositions(config, dim=2 * channels, activation="linear")
    x = torch.randn(2, 50, 2 * channels)
    exact = positions(x, None)
    if has_autocast:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = positions(x, None)
    else:
        rounded = positions.bfloat16()(x.bfloat16(), None)
    assert (rounded.float() - exact).norm() < 0.02 * exact.norm()
    (gradient,) = torch.autograd.grad(rounded.float().square().sum(), positions.convs[0].bias)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", ["weight_norm", "plain"])
@pytest.mark.parametrize("num_frames", [1, 33, 70])
def test_training_goes_by_spectra_to_the_same_gradients(
    kind: Literal["weight_norm", "plain"], num_frames: int
) -> None:
    torch.manual_seed(0)
    config = ConvPositionConfig(kind=kind, kernel_size=64, num_groups=2)
    positions = ConvPositions(config, dim=32, activation="gelu").double()
    x = torch.randn(2, num_frames, 32, dtype=torch.float64, requires_grad=True)
    taken = []
    with pytest.MonkeyPatch.context() as patches:
        spectral = conv_positions._spectral_conv
        patches.setattr(
            conv_positions, "_spectral_conv", lambda *each: taken.append(1) or spectral(*each)
        )
        results = []
        for way in (nullcontext, reference_kernels):
            with way():
                output = positions(x, None)
            loss = (output * torch.arange(output.numel()).view(output.shape).cos()).sum()
            results.append((output, torch.autograd.grad(loss, [x, *positions.parameters()])))
    assert taken == [1]
    torch.testing.assert_close(*results)
