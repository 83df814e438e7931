"""Positions from convolutions over the frames themselves (wav2vec 2.0, data2vec)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import Window
from auricle.nn.batch import zero_padding
from auricle.nn.cpu.policy import runs_on_cpu, trains_on_cpu
from auricle.nn.cpu.prepack import Prepacking
from auricle.nn.layers import WAVEFORM_ACTIVATIONS, WaveformActivation
from auricle.nn.norms import check_variance

STACK_NORM_EPS = 1e-5
"""Of the norms between stacked convolutions, whatever the Transformer's own is."""

MAX_DEPTH = 1000
"""Deeper stacks are taken for damaged configurations."""


class ConvPositionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of convolutional positions.

    Attributes:
        kind: `"weight_norm"` for one convolution with normalised weights (wav2vec 2.0),
            `"plain"` for one without (the norm may be folded into its weights), `"batch_norm"` for
            one after a batch norm (`conv_pos_batch_norm`), `"stack"` for several, each with a norm
            over channels (data2vec).
        kernel_size: Frames that a convolution spans (`conv_pos`, `num_conv_pos_embeddings`; in
            data2vec `conv_pos_kernel_size`).
        num_groups: Groups of each convolution (`conv_pos_groups`,
            `num_conv_pos_embedding_groups`).
        depth: Convolutions of a stack (`pos_conv_depth`; data2vec's `num_conv_pos_embeddings`).
    """

    kind: Literal["weight_norm", "plain", "batch_norm", "stack"] = "weight_norm"
    kernel_size: int = 128
    num_groups: int = 16
    depth: int = 1

    def __post_init__(self) -> None:
        if min(self.kernel_size, self.num_groups) < 1 or not 1 <= self.depth <= MAX_DEPTH:
            raise ValueError(
                f"positions must have kernel_size and num_groups of at least 1 and a depth of 1 to "
                f"{MAX_DEPTH}, but have {self.kernel_size}, {self.num_groups} and {self.depth}"
            )
        if self.depth > 1 and self.kind != "stack":
            raise ValueError(f"positions of kind {self.kind} have a depth of 1, not {self.depth}")

    @property
    def windows(self) -> tuple[Window, ...]:
        """Sliding windows of the convolutions; one frame in gives one frame out."""
        left = self.kernel_size // 2
        right = self.kernel_size - 1 - left
        window = Window(size=self.kernel_size, pad_left=left, pad_right=right)
        return (window,) * self.depth


def _grouped_conv(x: Tensor, weight: Tensor, bias: Tensor | None, num_groups: int) -> Tensor:
    """Convolution (B, D, T - kernel_size + 1) of `x` (B, D, T), in the type of `x`."""
    if _is_wrong_in_bfloat16(x, weight):
        with torch.autocast("cpu", enabled=False):
            wide = None if bias is None else bias.float()
            return F.conv1d(x.float(), weight.float(), wide, groups=num_groups).to(x.dtype)
    return F.conv1d(x, weight.to(x.dtype), bias, groups=num_groups)


SPECTRAL_MIN_TAPS = 64
SPECTRAL_MIN_CHANNELS = 16
"""From so many taps and channels a group on, training convolves by spectra."""


def _takes_spectra(x: Tensor, weight: Tensor) -> bool:
    """True if gradients are computed on the CPU of a convolution long enough to go by spectra."""
    _, num_channels, num_taps = weight.shape
    is_long = num_taps >= SPECTRAL_MIN_TAPS and num_channels >= SPECTRAL_MIN_CHANNELS
    return is_long and trains_on_cpu(x) and weight.dtype == x.dtype


def _spectral_conv(
    x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, num_groups: int
) -> Tensor:
    """As `_grouped_conv`, by products of spectra, in a fifth of the operations there and back.

    Pieces of the frames that overlap by a kernel are transformed (overlap-save), and so are the
    taps, by products with the matrix of the discrete Fourier transform; `scale` (1, 1, kernel_size)
    multiplies the taps, if given.
    """
    num_rows, dim, num_samples = x.shape
    width, num_taps = weight.shape[1:]
    num_frames, size = num_samples - num_taps + 1, 3 * num_taps // 2
    step = size - num_taps + 1
    num_pieces = -(-num_frames // step)
    forth, back = _fourier(size, x.dtype)
    of_taps = forth[:, :num_taps] if scale is None else forth[:, :num_taps] * scale.flatten()
    taps = of_taps @ weight.reshape(-1, num_taps).t()
    real, imaginary = taps.view(2, -1, width, width).transpose(2, 3).unbind()
    pieces = F.pad(x, (0, num_pieces * step + num_taps - 1 - num_samples)).unfold(2, size, step)
    pieces = pieces.view(num_rows, num_groups, width, num_pieces, size).permute(4, 1, 0, 3, 2)
    spectra = (forth @ pieces.reshape(size, -1)).view(2, -1, num_rows * num_pieces, width)
    # Correlation: each spectrum times the conjugate of that of the taps.
    first = torch.baddbmm(spectra[0] @ real, spectra[1], imaginary)
    second = torch.baddbmm(spectra[1] @ real, spectra[0], imaginary, alpha=-1)
    y = back[:step] @ torch.cat([first, second]).view(len(forth), -1)
    y = y.view(step, num_groups, num_rows, num_pieces, width).permute(2, 1, 4, 3, 0)
    y = y.reshape(num_rows, dim, -1)[:, :, :num_frames]
    return y if bias is None else y + bias.unsqueeze(1)


@lru_cache(maxsize=8)
def _fourier(size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Matrices of the transform of real values, real parts first, and of its inverse."""
    with torch.inference_mode(False), torch.device("cpu"):
        frequencies = torch.arange(size // 2 + 1)
        turns = (torch.outer(frequencies, torch.arange(size)) % size).double() / size
        angles = 2 * math.pi * turns
        forth = torch.cat([angles.cos(), -angles.sin()])
        is_lone = (frequencies == 0) | (2 * frequencies == size)  # of no conjugate
        counts = (2.0 - is_lone.double()).repeat(2)
        back = forth.t() * (counts / size)
        return forth.to(dtype), back.to(dtype)


class _GroupedConv(nn.Conv1d):
    """A convolution in groups without padding."""

    def forward(self, x: Tensor) -> Tensor:
        if _takes_spectra(x, self.weight):
            return _spectral_conv(x, self.weight, None, self.bias, self.groups)
        return _grouped_conv(x, self.weight, self.bias, self.groups)


class ConvPositions(nn.Module):
    """Positions (B, T, D) of frames (B, T, D) that hold zeros on padding."""

    def __init__(
        self, config: ConvPositionConfig, *, dim: int, activation: WaveformActivation
    ) -> None:
        super().__init__()
        self.config = config
        self.activation = WAVEFORM_ACTIVATIONS[activation]
        if config.kind == "weight_norm":
            self.convs = nn.ModuleList([WeightNormConv(config, dim=dim)])
        else:
            self.convs = nn.ModuleList(
                _GroupedConv(dim, dim, config.kernel_size, groups=config.num_groups)
                for _ in range(config.depth)
            )
        if config.kind == "batch_norm":
            self.batch_norm = nn.BatchNorm1d(dim)

    def forward(self, frames: Tensor, padding: Tensor | None, chunk: slice | None = None) -> Tensor:
        """Positions of `frames`, or of a chunk of them.

        `padding` (B, T) is True on padding.
        """
        num_frames = frames.shape[1]
        if chunk is None or (chunk.start, chunk.stop) == (0, num_frames):
            return self._positions(frames, padding)
        # What a cut does to frames near it goes no further than the convolutions reach.
        windows = self.config.windows
        start = max(chunk.start - sum(window.pad_left for window in windows), 0)
        stop = min(chunk.stop + sum(window.pad_right for window in windows), num_frames)
        seen = None if padding is None else padding[:, start:stop]
        positions = self._positions(frames[:, start:stop], seen)
        return positions[:, chunk.start - start : chunk.stop - start]

    def _positions(self, frames: Tensor, padding: Tensor | None) -> Tensor:
        if self.config.kind == "batch_norm":
            frames = self._batch_norm(frames, padding)
        x = frames.transpose(1, 2)
        for index, conv in enumerate(self.convs):
            if index > 0:
                x = zero_padding(x, padding, time_dim=2)
            window = self.config.windows[index]
            x = conv(F.pad(x, (window.pad_left, window.pad_right)))
            if self.config.kind == "stack":
                normed = F.layer_norm(x.transpose(1, 2), (x.shape[1],), eps=STACK_NORM_EPS)
                x = normed.transpose(1, 2)
            x = self.activation(x)
        return x.transpose(1, 2)

    def _batch_norm(self, frames: Tensor, padding: Tensor | None) -> Tensor:
        if self.batch_norm.training:
            num_frames = frames.shape[0] * frames.shape[1]
            check_variance(num_frames if padding is None else num_frames - int(padding.sum()))
        if padding is None:
            normed: Tensor = self.batch_norm(frames.transpose(1, 2)).transpose(1, 2)
            return normed
        # Valid frames alone: in training padding must not count, and it must stay zero.
        return torch.zeros_like(frames).masked_scatter(
            ~padding.unsqueeze(-1), self.batch_norm(frames[~padding])
        )


class WeightNormConv(Prepacking):
    """A grouped convolution whose weight has one learnt norm per tap (arXiv:1602.07868)."""

    def __init__(self, config: ConvPositionConfig, *, dim: int) -> None:
        super().__init__()
        self.num_groups = config.num_groups
        shape = (dim, dim // config.num_groups, config.kernel_size)
        self.weight_g = nn.Parameter(torch.empty(1, 1, config.kernel_size))
        self.weight_v = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(dim))
        # As fairseq starts it; a tap's norm is then close to the standard deviation times the
        # root of the count of its weights.
        std = math.sqrt(4.0 / (config.kernel_size * dim))
        nn.init.normal_(self.weight_v, std=std)
        nn.init.constant_(self.weight_g, std * math.sqrt(shape[0] * shape[1]))
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolution (B, D, T - kernel_size + 1) of `x` (B, D, T)."""
        if _takes_spectra(x, self.weight_v):
            # In a quarter of the time that the norm of `folded` takes over such dimensions.
            norms = self.weight_v.square().flatten(0, 1).sum(0).sqrt()
            return _spectral_conv(
                x, self.weight_v, self.weight_g / norms, self.bias, self.num_groups
            )
        weight = self.cached_from("weight", (self.weight_v, self.weight_g), self.folded)
        return _grouped_conv(x, weight, self.bias, self.num_groups)

    def folded(self) -> Tensor:
        """The convolution's weight (D, D / groups, kernel_size), the norm folded in."""
        at_least_float32 = torch.promote_types(self.weight_v.dtype, torch.float32)
        norms = torch.linalg.vector_norm(
            self.weight_v, dim=(0, 1), keepdim=True, dtype=at_least_float32
        )
        weight: Tensor = self.weight_v * (self.weight_g / norms).to(self.weight_v.dtype)
        return weight


def _is_wrong_in_bfloat16(x: Tensor, weight: Tensor) -> bool:
    """True where a CPU with AMX convolves wrongly, for which float32 has to do.

    oneDNN 3.12 of torch 2.13 does where a group has an even number of channels below 16 and the
    kernel a multiple of 8 taps (findings/torch-bf16-conv1d-of-few-channels-is-wrong.sh).
    """
    num_channels, num_taps = weight.shape[1:]
    if not runs_on_cpu(x) or num_channels >= 16 or num_channels % 2 or num_taps % 8:
        return False
    return x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
