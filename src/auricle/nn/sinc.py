"""Band-pass filters that are learnt by their two edges (SincNet, arXiv:1808.00158)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv1d_input, conv1d_weight

from auricle.nn.cpu.policy import is_traced, runs_on_cpu

SAMPLE_RATE = 16_000
"""Sample rate in Hz of the waveforms that the filters are for."""

MIN_LOW_HZ = 50.0
MIN_BAND_HZ = 50.0
"""Lowest edge and least width of a band, from the reference implementation of PASE."""

INITIAL_LOW_HZ = 30.0
"""Where the mel-spaced bands of a fresh filter bank begin (ibid.)."""


CPU_TILE_FRAMES = 4096
"""Frames that are computed at once on the CPU, so that their shifted copies stay in the cache."""

DEVICE_TILE_FRAMES = 2**14
"""The same on an accelerator, where memory alone limits it."""


class SincConv(nn.Module):
    """A bank of band-pass filters over a waveform, without bias.

    A filter is `sin(2 pi high t) - sin(2 pi low t)` over `pi t`, under a Hamming window, and
    divided by twice its band's width, so that its middle tap is 1 (SincNet, equation 4).
    """

    def __init__(self, num_filters: int, kernel_size: int, *, stride: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        # On the meta device their arithmetic would import torch's compiler, which takes a second.
        with torch.device("cpu"):
            edges = _mel_spaced(num_filters + 1)
            widths = edges.diff()
        device = torch.get_default_device()
        self.low_hz = nn.Parameter(edges[:-1].view(-1, 1).to(device))
        self.band_hz = nn.Parameter(widths.view(-1, 1).to(device))

    def filters(self) -> Tensor:
        """Impulse responses (C, 1, kernel_size), float32.

        The order of operations and their type are the reference's: the argument of the sines
        reaches 400 radians, where float32 rounds to some 1e-5.
        """
        angles, window = _half_taps(self.kernel_size)
        angles, window = angles.to(self.low_hz.device), window.to(self.low_hz.device)
        low = MIN_LOW_HZ + self.low_hz.float().abs()
        high = low + MIN_BAND_HZ + self.band_hz.float().abs()
        high = high.clamp(MIN_LOW_HZ, SAMPLE_RATE / 2)
        band = high - low
        left = (torch.sin(high * angles) - torch.sin(low * angles)) / (angles / 2) * window
        taps = torch.cat([left, 2 * band, left.flip(1)], dim=1)
        return (taps / (2 * band)).unsqueeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, C, T), in the type of the weights, for waveforms `x` (B, 1, S), float32."""
        if is_traced():
            wide = torch.float32 if x.device.type == "mps" else torch.float64
            y = F.conv1d(x.to(wide), self.filters().to(wide), stride=self.stride)
            return y.to(self.low_hz.dtype)
        # torch does not type autograd functions, nor the gradients of convolutions below.
        output: Tensor = SymmetricConv.apply(x, self.filters(), self.stride)  # type: ignore[no-untyped-call]
        return output.to(self.low_hz.dtype)


class SymmetricConv(torch.autograd.Function):
    """Convolution of one channel with symmetric filters, in float64 inside.

    A tone or an offset is cancelled by every filter whose band it is not in. In float32 the
    rounding of that sum is what is left there, it changes with the shape of the batch, and batch
    norm brings it to the level of the signal. Gradients are those of the plain convolution.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Tensor, stride: int) -> Tensor:
        """Output (B, C, T) for `x` (B, 1, S) and `filters` (C, 1, K), mirrored about tap K // 2."""
        ctx.save_for_backward(x, filters)
        ctx.stride = stride
        tile_frames = CPU_TILE_FRAMES if runs_on_cpu(x) else DEVICE_TILE_FRAMES
        # Apple's devices have no float64.
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        size, middle = filters.shape[2], filters.shape[2] // 2
        taps = filters[:, 0, : middle + 1].to(wide)
        num_frames = (x.shape[2] - size) // stride + 1
        output = x.new_empty(x.shape[0], filters.shape[0], num_frames)
        for start in range(0, num_frames, tile_frames):
            stop = min(start + tile_frames, num_frames)
            span = (stop - start - 1) * stride + 1
            samples = x[:, 0, start * stride : start * stride + span + size - 1].to(wide)
            # (B, K, frames): row k holds what tap k meets. Taps that mirror each other share one
            # product with the sum of theirs.
            met = samples.unfold(1, span, 1)[..., ::stride]
            folded = met[:, : middle + 1].clone()
            folded[:, :middle] += met[:, middle + 1 :].flip(1)
            output[:, :, start:stop] = taps @ folded
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, filters = ctx.saved_tensors
        of_x = of_filters = None
        if ctx.needs_input_grad[0]:
            of_x = conv1d_input(x.shape, filters, grad, stride=ctx.stride)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            of_filters = conv1d_weight(x, filters.shape, grad, stride=ctx.stride)  # type: ignore[no-untyped-call]
        return of_x, of_filters, None


def _mel_spaced(num_edges: int) -> Tensor:
    """Edges of neighbouring bands in Hz (num_edges,), equally spaced on the mel scale."""
    highest = SAMPLE_RATE / 2 - (MIN_LOW_HZ + MIN_BAND_HZ)
    mel = torch.linspace(_to_mel(INITIAL_LOW_HZ), _to_mel(highest), num_edges)
    hz: Tensor = 700 * (10 ** (mel / 2595) - 1)
    return hz


def _to_mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


@lru_cache
def _half_taps(kernel_size: int) -> tuple[Tensor, Tensor]:
    """Angular frequency per Hz (1, N) and window (N,) of the taps before the middle one."""
    # Constants that live longer than one call must not be inference tensors.
    with torch.inference_mode(False), torch.device("cpu"):
        num_taps = kernel_size // 2
        taps = torch.arange(-num_taps, 0, dtype=torch.float32)
        angles = 2 * math.pi * taps.view(1, -1) / SAMPLE_RATE
        # The reference's window runs over 0..(kernel_size / 2 - 1), half a tap too far.
        positions = torch.linspace(0, kernel_size / 2 - 1, num_taps)
        window = 0.54 - 0.46 * torch.cos(2 * math.pi * positions / kernel_size)
    return angles, window
