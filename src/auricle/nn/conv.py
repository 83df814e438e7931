"""Linear layers and convolutions over time, fast in inference; reflect padding, SincNet filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv1d_input, conv1d_weight

from auricle.info import SAMPLE_RATE
from auricle.nn.batch import Lengths, as_tensor
from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import is_traced, joins_frames, may_bypass, runs_on_cpu, trains_on_cpu
from auricle.nn.layers import WAVEFORM_ACTIVATIONS, FfnActivation, WaveformActivation


class Linear(prepack.Prepacking, nn.Linear):
    """`nn.Linear`, faster in inference on the CPU."""

    is_int8 = False
    """True if inference multiplies in 8 bits."""

    def forward(self, x: Tensor) -> Tensor:
        """Output (..., N) for `x` (..., K)."""
        if self.is_int8 and prepack.is_packable(x, self.weight):
            return prepack.int8_linear(self, x, self.weight, self.bias)
        return prepack.linear(self, x, self.weight, self.bias)


def activated(linear: nn.Module, x: Tensor, activation: FfnActivation) -> Tensor:
    """`activation(linear(x))`, in one pass where it is a `Linear` that may be bypassed."""
    if activation == "swiglu":
        values, gates = linear(x).chunk(2, dim=-1)
        product: Tensor = values * F.silu(gates)
        return product
    if type(linear) is Linear and not linear.is_int8 and may_bypass(linear):
        return prepack.linear(linear, x, linear.weight, linear.bias, activation)
    output: Tensor = WAVEFORM_ACTIVATIONS[activation](linear(x))
    return output


def columns_of(linear: nn.Module, x: Tensor, columns: slice) -> Tensor:
    """Some columns of the output of `linear` for `x`."""
    if type(linear) is Linear:
        bias = None if linear.bias is None else linear.bias[columns]
        return F.linear(x, linear.weight[columns], bias)
    # Whatever stands in its place, an adapter for one, need not be its weights alone.
    output: Tensor = linear(x)
    return output[..., columns]


LONE_KERNEL_ELEMENTS = 20_480
"""Up to this size torch gives a single row on the CPU to another kernel than a batch."""


class Conv1d(prepack.Prepacking, nn.Conv1d):
    """`nn.Conv1d`, faster in inference on the CPU.

    It is computed in the type of its input, whatever that of the weights is.
    """

    trains_by_products = False
    """True if training on the CPU convolves by products too: for many channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, N, T') for `x` (B, C, T).

        For inference on the CPU it is a product over windows of frames, whose output lies frame
        after frame in memory, as the next such convolution reads it.
        """
        if self.trains_by_products and self._is_product() and trains_on_cpu(x):
            padding = cast("int", self.padding[0])
            frames = x.transpose(1, 2)
            frames = F.pad(frames, (0, 0, padding, padding)) if padding else frames
            return torch.stack([self.after(row, nn.Identity()) for row in frames]).transpose(1, 2)
        if not (self._is_product() and prepack.is_packable(x, self.weight)):
            return self._by_torch(x)
        padding, stride = cast("int", self.padding[0]), self.stride[0]
        rows = [
            self.convolve_frames(
                F.pad(frames, (0, 0, padding, padding)) if padding else frames, stride=stride
            )
            for frames in x.transpose(1, 2)
        ]
        return (rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)).transpose(1, 2)

    def convolve_frames(
        self, frames: Tensor, *, stride: int = 1, activation: WaveformActivation | None = None
    ) -> Tensor:
        """Convolution (T', N) of frames (T, C), without padding, by a product with windows."""
        windows = frame_windows(frames, self.weight.shape[2], stride)
        return prepack.linear(self, windows, self.weight, self.bias, activation, layout=as_windows)

    def after(self, frames: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """Convolution (T', N) of `activation(frames)`, frames (T, C), for training on the CPU.

        Nothing but `frames` is kept for the backward pass.
        """
        size, stride = self.weight.shape[2], self.stride[0]
        # torch does not type autograd functions.
        output: Tensor = _ActivatedConv.apply(  # type: ignore[no-untyped-call]
            frames.contiguous(), as_windows(self.weight), self.bias, activation, size, stride
        )
        return output

    def _is_product(self) -> bool:
        """True if each output is a product with neighbouring frames, or zeros past the ends."""
        has_zeros = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        return has_zeros and self.groups == 1 and self.dilation == (1,)

    def _by_torch(self, x: Tensor) -> Tensor:
        """As `forward` by torch's kernels, where B of 1 goes through the kernel of a batch.

        The two kernels add up in different orders. Where a filter cancels a loud tone, or a gate
        takes large values, what they differ by is no longer small beside the output.
        """
        is_lone = (
            not is_traced()
            and x.shape[0] == 1
            and runs_on_cpu(x)
            and x.numel() <= LONE_KERNEL_ELEMENTS
        )
        rows = x.expand(2, -1, -1) if is_lone else x
        bias = None if self.bias is None else self.bias.to(x.dtype)
        output: Tensor = self._conv_forward(rows, self.weight.to(x.dtype), bias)
        return output[:1] if is_lone else output


class _ActivatedConv(torch.autograd.Function):
    """Convolution of activations, forward and back as products without a copy of windows.

    Frames are read `stride` at a time, so that rows of what a product reads, or adds to, never
    overlap: a window is as many of these blocks as it spans, the last one perhaps in part. The
    backward pass computes activations again, which costs less than to keep and fetch them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        matrix: Tensor,
        bias: Tensor | None,
        activation: Callable[[Tensor], Tensor],
        size: int,
        stride: int,
    ) -> Tensor:
        """Output (T', N) for frames (T, C) and weights (N, size * C), bias (N,)."""
        ctx.save_for_backward(frames, matrix)
        ctx.activation, ctx.stride, ctx.has_bias = activation, stride, bias is not None
        ctx.num_windows = (len(frames) - size) // stride + 1
        output = frames.new_empty(ctx.num_windows, len(matrix))
        if bias is None:
            output.zero_()
        else:
            output.copy_(bias.expand_as(output))
        activated = activation(frames)
        for block, weight in _blocks(activated, matrix, ctx.num_windows, stride):
            output.addmm_(block, weight.t())
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        frames, matrix = ctx.saved_tensors
        of_frames = of_matrix = None
        with torch.enable_grad():
            frames = frames.detach().requires_grad_(ctx.needs_input_grad[0])
            activated = ctx.activation(frames)
        sizes = ctx.num_windows, ctx.stride
        grad = grad.contiguous()
        if ctx.needs_input_grad[1]:
            of_matrix = torch.empty_like(matrix)
            for block, place in _blocks(activated.detach(), of_matrix, *sizes):
                torch.mm(grad.t(), block, out=place)
        if ctx.needs_input_grad[0]:
            of_activated = torch.zeros_like(frames)
            for place, weight in _blocks(of_activated, matrix, *sizes):
                place.addmm_(grad, weight)
            with torch.enable_grad():  # of a scalar, for which autograd imports no compiler
                loss = torch.dot(activated.flatten(), of_activated.flatten())
            (of_frames,) = torch.autograd.grad(loss, frames)
        of_bias = grad.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return of_frames, of_matrix, of_bias, None, None, None


def _blocks(
    frames: Tensor, matrix: Tensor, num_windows: int, stride: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of all windows over contiguous frames (T, C), and their columns of the weights.

    Views (T', taps * C) and (N, taps * C), of up to `stride` taps.
    """
    width = frames.shape[1]
    row, columns = stride * width, matrix.shape[1]
    for start in range(0, columns, row):
        stop = min(start + row, columns)
        shape = (num_windows, stop - start)
        part = frames.as_strided(shape, (row, 1), frames.storage_offset() + start)
        yield part, matrix[:, start:stop]


def frame_windows(frames: Tensor, size: int, stride: int) -> Tensor:
    """Windows (T', size * C) of a convolution over frames (T, C), without a copy."""
    num_frames, width = frames.shape
    frames = frames.contiguous()
    num_windows = (num_frames - size) // stride + 1
    return frames.as_strided(
        (num_windows, size * width), (stride * width, 1), frames.storage_offset()
    )


def as_windows(weight: Tensor) -> Tensor:
    """A convolution's weight (N, C, K) as the matrix (N, K * C) that windows are multiplied by."""
    return weight.transpose(1, 2).flatten(1)


def reflect_pad(x: Tensor, lengths: Lengths, *, left: int, right: int) -> Tensor:
    """Each utterance mirrored at its own two ends, its first and last frame not repeated.

    Args:
        x: (B, C, T); on padding it may hold any finite values.
        lengths: Valid frames of each row of `x`, each more than `left` and `right`; the largest
            is T.
        left: Frames to add before the first.
        right: Frames to add after the last valid one.

    Returns:
        (B, C, left + T + right). What follows an utterance's `right` mirrored frames is neither
        mirrored nor zero.
    """
    if not isinstance(lengths, Tensor) and len(set(lengths)) == 1:
        if not joins_frames(x):
            return F.pad(x, (left, right), mode="reflect")
        # As it lies in memory where inference has computed it: frame after frame.
        frames = x.transpose(1, 2)
        before, after = frames[:, 1 : left + 1].flip(1), frames[:, -right - 1 : -1].flip(1)
        return torch.cat([before, frames, after], dim=1).transpose(1, 2)
    before = x[:, :, 1 : left + 1].flip(2)
    after = x.new_zeros(x.shape[0], x.shape[1], right)
    padded = torch.cat([before, x, after], dim=2)
    ends = as_tensor(lengths, x.device).view(-1, 1, 1)
    steps = torch.arange(right, device=x.device)
    shape = (-1, x.shape[1], -1)
    mirrored = x.gather(2, (ends - 2 - steps).expand(shape))
    return padded.scatter_(2, (left + ends + steps).expand(shape), mirrored)


MIN_LOW_HZ = 50.0
MIN_BAND_HZ = 50.0
"""Lowest edge and least width of a band, from the reference implementation of PASE."""

INITIAL_LOW_HZ = 30.0
"""Lowest edge of the mel-spaced bands of a fresh filter bank (ibid.)."""


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
        # A constant that is traced is a part of the graph and must not be kept.
        half_taps = _half_taps.__wrapped__ if is_traced() else _half_taps
        angles, window = half_taps(self.kernel_size)
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
    with torch.inference_mode(False):
        num_taps = kernel_size // 2
        taps = torch.arange(-num_taps, 0, dtype=torch.float32, device="cpu")
        angles = 2 * math.pi * taps.view(1, -1) / SAMPLE_RATE
        # The reference's window runs over 0..(kernel_size / 2 - 1), half a tap too far.
        positions = torch.linspace(0, kernel_size / 2 - 1, num_taps, device="cpu")
        window = 0.54 - 0.46 * torch.cos(2 * math.pi * positions / kernel_size)
    return angles, window
