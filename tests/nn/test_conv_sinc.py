from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from auricle.nn import conv as module
from auricle.nn.conv import SincConv


def tap(low: float, high: float, offset: int, size: int) -> float:
    """One tap of a filter, `offset` taps before or after the middle one, in plain arithmetic."""
    if offset == 0:
        return 1.0
    index = size // 2 - abs(offset)
    position = index * (size / 2 - 1) / (size // 2 - 1)
    window = 0.54 - 0.46 * math.cos(2 * math.pi * position / size)
    seconds = abs(offset) / 16_000
    sines = math.sin(2 * math.pi * high * seconds) - math.sin(2 * math.pi * low * seconds)
    return sines / (math.pi * seconds) * window / (2 * (high - low))


def test_filters_follow_the_formula() -> None:
    conv = SincConv(3, 51, stride=1)
    with torch.no_grad():
        conv.low_hz.copy_(torch.tensor([[-100.0], [3000.0], [7000.0]]))
        conv.band_hz.copy_(torch.tensor([[200.0], [-500.0], [5000.0]]))
    filters = conv.filters()
    assert filters.shape == (3, 1, 51)
    bands = [(150.0, 400.0), (3050.0, 3600.0), (7050.0, 8000.0)]
    for response, (low, high) in zip(filters[:, 0], bands, strict=True):
        expected = [tap(low, high, offset, 51) for offset in range(-25, 26)]
        assert response.tolist() == pytest.approx(expected, abs=1e-4)


def test_fresh_filters_cover_the_band_in_order() -> None:
    conv = SincConv(64, 251, stride=1)
    assert conv.low_hz[0].item() == pytest.approx(30, abs=0.1)
    assert (conv.band_hz > 0).all()
    assert (conv.low_hz + conv.band_hz)[-1].item() == pytest.approx(7900, abs=0.1)
    assert torch.allclose(conv.low_hz[1:], (conv.low_hz + conv.band_hz)[:-1], atol=1e-2)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("num_frames", [1, 9, 10, 11, 45])
def test_tiles_join_to_the_plain_convolution(
    monkeypatch: pytest.MonkeyPatch, stride: int, num_frames: int
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(module, "CPU_TILE_FRAMES", 10)
    conv = SincConv(4, 11, stride=stride)
    x = torch.randn(2, 1, 11 + stride * (num_frames - 1))
    expected = F.conv1d(x.double(), conv.filters().double(), stride=stride)
    assert torch.equal(conv(x), expected.float())


def test_a_tone_that_is_cancelled_leaves_little() -> None:
    conv = SincConv(1, 251, stride=1)
    with torch.no_grad():
        conv.low_hz.fill_(7000)
        conv.band_hz.fill_(500)
        tone = torch.sin(2 * math.pi * 20 / 16_000 * torch.arange(16_000.0)).view(1, 1, -1)
        exact = F.conv1d(tone.double(), conv.filters().double())
        plain = F.conv1d(tone, conv.filters())
        error = (conv(tone) - exact).abs().max()
    assert error < (plain - exact).abs().max() / 20


def test_gradients_are_those_of_the_plain_convolution() -> None:
    torch.manual_seed(0)
    conv = SincConv(4, 11, stride=2)
    x = torch.randn(2, 1, 40, requires_grad=True)
    target = torch.randn(2, 4, 15)
    ours = torch.autograd.grad((conv(x) * target).sum(), [x, conv.low_hz, conv.band_hz])
    plain = F.conv1d(x, conv.filters(), stride=2)
    theirs = torch.autograd.grad((plain * target).sum(), [x, conv.low_hz, conv.band_hz])
    for grad, expected in zip(ours, theirs, strict=True):
        assert expected.abs().max() > 0
        assert torch.allclose(grad, expected, rtol=1e-4, atol=1e-6)


def test_half_precision_weights_give_half_precision_output() -> None:
    conv = SincConv(2, 11, stride=1).to(torch.bfloat16)
    assert conv(torch.randn(1, 1, 20)).dtype == torch.bfloat16


def test_constants_built_under_inference_mode_serve_training() -> None:
    module._half_taps.cache_clear()
    conv = SincConv(2, 13, stride=1)
    with torch.inference_mode():
        conv(torch.randn(1, 1, 20))
    conv(torch.randn(1, 1, 20)).sum().backward()
    assert conv.low_hz.grad is not None
