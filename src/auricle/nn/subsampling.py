"""Subsampling: convolutions over time and bands of a spectrum, averages over groups of frames."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import FrameGeometry, Window
from auricle.nn.batch import Lengths, as_tensor, frames_of, padding_mask, zero_padding
from auricle.nn.cpu.policy import halo_chunks
from auricle.nn.layers import dropout

MAX_FACTOR = 64
"""Far above any published encoder's."""

LEAKAGE = 0.01
"""Slope of the leaky rectifier below 0 (torch's default, which SpeechBrain takes)."""


class StridingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of FastConformer's subsampling; in brackets its names in transformers.

    Attributes:
        factor: Frames of the spectrum that become one, a power of 2 (`subsampling_factor`).
        channels: Of the convolutions (`subsampling_conv_channels`).
        kernel_size: Frames and bands that each sees (`subsampling_conv_kernel_size`).
        is_separable: Whether those after the first are of each channel by itself, each with a
            pointwise one after it (NeMo: `subsampling`, `dw_striding` or `striding`).
    """

    factor: int = 8
    channels: int = 256
    kernel_size: int = 3
    is_separable: bool = True

    def __post_init__(self) -> None:
        if self.factor not in (2**power for power in range(1, MAX_FACTOR.bit_length())):
            raise ValueError(
                f"factor must be a power of 2 from 2 to {MAX_FACTOR}, but is {self.factor}"
            )
        if self.channels < 1 or self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(
                "channels must be at least 1 and kernel_size odd, but they are "
                f"{self.channels} and {self.kernel_size}"
            )

    @property
    def num_convs(self) -> int:
        """Convolutions with a stride of 2."""
        return self.factor.bit_length() - 1

    @property
    def windows(self) -> tuple[Window, ...]:
        """Windows that slide over frames and over bands, one for each convolution."""
        half = self.kernel_size // 2
        window = Window(size=self.kernel_size, stride=2, pad_left=half, pad_right=half)
        return (window,) * self.num_convs


class ReflectingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of SpeechBrain's `ConvolutionFrontEnd`.

    Attributes:
        channels: Of each convolution (`out_channels`).
        kernel_sizes: Frames and bands that each sees (`kernel_sizes`).
        strides: Frames and bands that each moves by (`strides`).
        dropout: After each in training (`dropout`).
    """

    channels: tuple[int, ...] = (128, 32)
    kernel_sizes: tuple[int, ...] = (3, 3)
    strides: tuple[int, ...] = (2, 2)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        lists = (self.channels, self.kernel_sizes, self.strides)
        values = [value for one in lists for value in one]
        if len({len(one) for one in lists}) > 1 or not values or min(values) < 1:
            raise ValueError(
                "channels, kernel_sizes and strides must be as many, each at least 1, but are "
                f"{self.channels}, {self.kernel_sizes} and {self.strides}"
            )
        if not all(size % 2 for size in self.kernel_sizes):
            raise ValueError(f"kernel_sizes must be odd, but are {self.kernel_sizes}")

    @property
    def windows(self) -> tuple[Window, ...]:
        """Windows that slide over frames and over bands, one for each convolution."""
        return tuple(
            Window(size=size, stride=stride, pad_left=size // 2, pad_right=size // 2)
            for size, stride in zip(self.kernel_sizes, self.strides, strict=True)
        )


class Subsampling(nn.Module, abc.ABC):
    """Base of both: convolutions one after the other, of long utterances in parts.

    Attributes:
        geometry: How frames of the output slide over those of the spectrum.
        num_bands: Bands before each convolution, and after the last one.
    """

    def __init__(self, windows: tuple[Window, ...], num_bands: int) -> None:
        super().__init__()
        self.geometry = FrameGeometry(windows)
        self.num_bands = [num_bands]
        for window in windows:
            self.num_bands.append(FrameGeometry((window,)).num_frames(self.num_bands[-1]))

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Width of a frame of the output."""

    @property
    @abc.abstractmethod
    def first_channels(self) -> int:
        """Channels of the first convolution, which has the largest output."""

    @abc.abstractmethod
    def convolve(self, index: int, x: Tensor, lengths: Lengths) -> Tensor:
        """Output (B, N, T', M') of convolution `index` for `x` (B, C, T, M).

        Frames after the `lengths` of rows may hold anything, in `x` and in the output.
        """

    @abc.abstractmethod
    def flatten(self, x: Tensor) -> Tensor:
        """Frames (B, T, D) of channels and bands (B, C, T, M)."""

    def forward(self, features: Tensor, lengths: Lengths) -> Tensor:
        """Output (B, T', D) for features (B, T, M), rows of `lengths` valid frames."""
        x = features.unsqueeze(1)
        if isinstance(lengths, Tensor):
            return self.flatten(self._convolved(x, lengths))
        frames_each = self.geometry.hop_samples // self.geometry.windows[0].stride
        elements = len(x) * self.first_channels * self.num_bands[1] * frames_each
        parts = halo_chunks(lengths, self.geometry, elements * x.element_size(), (self,))
        if len(parts) == 1:
            return self.flatten(self._convolved(x, lengths))
        output = x.new_zeros(len(x), self.geometry.num_frames(max(lengths)), self.dim)
        for part in parts:
            y = self._convolved(part.of(x), part.lengths)
            output[part.rows, part.frames] = self.flatten(part.own(y, part.hop))
        return output

    def _convolved(self, x: Tensor, lengths: Lengths) -> Tensor:
        for index, window in enumerate(self.geometry.windows):
            x = self.convolve(index, x, lengths)
            lengths = frames_of(FrameGeometry((window,)), lengths)
        return x


class Conv2d(nn.Conv2d):
    """A convolution of (B, C, T, M) with weights (N, C, frames, bands)."""


class Striding(Subsampling):
    """FastConformer's subsampling (arXiv:2305.05084, section 2.1): zeros beyond all ends, ReLU."""

    def __init__(self, config: StridingConfig, num_bands: int) -> None:
        super().__init__(config.windows, num_bands)
        self.config = config
        channels, half = config.channels, config.kernel_size // 2
        groups = channels if config.is_separable else 1
        self.convs = nn.ModuleList(
            Conv2d(
                channels if index else 1,
                channels,
                config.kernel_size,
                stride=2,
                padding=half,
                groups=groups if index else 1,
            )
            for index in range(config.num_convs)
        )
        num_pointwise = config.num_convs - 1 if config.is_separable else 0
        self.pointwise = nn.ModuleList(Conv2d(channels, channels, 1) for _ in range(num_pointwise))

    @property
    def dim(self) -> int:
        return self.config.channels * self.num_bands[-1]

    @property
    def first_channels(self) -> int:
        return self.config.channels

    def convolve(self, index: int, x: Tensor, lengths: Lengths) -> Tensor:
        x = zero_padding(x, padding_mask(lengths, x.shape[2], x.device), time_dim=2)
        x = self.convs[index](x)
        if index and self.config.is_separable:
            x = self.pointwise[index - 1](x)
        return x.relu()

    def flatten(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class BandsFirstConv2d(nn.Conv2d):
    """A convolution of (B, C, T, M) with weights (N, C, bands, frames)."""

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, N, T', M') for `x`."""
        return F.conv2d(x, self.weight.transpose(2, 3), self.bias, stride=self.stride)


class Reflecting(Subsampling):
    """SpeechBrain's front: ends are mirrored, frames normed over all their bands and channels."""

    def __init__(self, config: ReflectingConfig, num_bands: int) -> None:
        super().__init__(config.windows, num_bands)
        self.config = config
        inputs = (1, *config.channels)
        self.convs = nn.ModuleList(
            BandsFirstConv2d(inputs[index], channels, size, stride=stride)
            for index, (channels, size, stride) in enumerate(
                zip(config.channels, config.kernel_sizes, config.strides, strict=True)
            )
        )
        shapes = zip(self.num_bands[1:], config.channels, strict=True)
        self.norms = nn.ModuleList(nn.LayerNorm(list(shape)) for shape in shapes)

    @property
    def dim(self) -> int:
        return self.config.channels[-1] * self.num_bands[-1]

    @property
    def first_channels(self) -> int:
        return self.config.channels[0]

    def convolve(self, index: int, x: Tensor, lengths: Lengths) -> Tensor:
        x = self.convs[index](mirrored(x, lengths, self.config.kernel_sizes[index] // 2))
        x = F.leaky_relu(self.norms[index](x.permute(0, 2, 3, 1)), LEAKAGE)
        return dropout(x, self.config.dropout, self.training).permute(0, 3, 1, 2)

    def flatten(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(2)


def mirrored(x: Tensor, lengths: Lengths, reach: int) -> Tensor:
    """`x` (B, C, T, M) with `reach` bands and frames mirrored at the ends of each utterance.

    Returns:
        (B, C, T + 2 reach, M + 2 reach); the first frames of a row are those of its utterance.
    """
    if reach == 0:
        return x
    if padding_mask(lengths, x.shape[2], x.device) is None:
        return F.pad(x, (reach, reach, reach, reach), mode="reflect")
    frames = torch.arange(-reach, x.shape[2] + reach, device=x.device).abs()
    last = as_tensor(lengths, x.device).unsqueeze(1) - 1
    index = (last - (frames - last).abs()).clamp(min=0)
    x = F.pad(x, (reach, reach, 0, 0), mode="reflect")
    return x.gather(2, index[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))


def average_groups(x: Tensor, lengths: Sequence[int], num_groups: Sequence[int]) -> Tensor:
    """Each utterance's frames averaged in groups of `lengths // num_groups` neighbours.

    Frames beyond a whole multiple of `num_groups` are dropped (PASE+, arXiv:2001.09239).

    Args:
        x: (B, C, T); on padding it may hold any finite values.
        lengths: Valid frames of each row of `x`.
        num_groups: Groups to cut each row into, from 1 to its length.

    Returns:
        (B, C, the largest of `num_groups`), zeros past an utterance's groups.
    """
    sizes = [length // count for length, count in zip(lengths, num_groups, strict=True)]
    rows_by_size: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        rows_by_size.setdefault(size, []).append(row)
    averages = x.new_zeros(x.shape[0], x.shape[1], max(num_groups))
    # Lengths of some seconds share one size or two, so that this is a loop over very few.
    for size, rows in rows_by_size.items():
        most = max(num_groups[row] for row in rows)
        part = (x if len(rows) == len(sizes) else x[rows])[:, :, : most * size]
        averages[rows, :, :most] = part.reshape(*part.shape[:2], most, size).mean(3)
    for row, count in enumerate(num_groups):
        averages[row, :, count:] = 0
    return averages


def partial_averages(
    x: Tensor, *, first: int, group_size: int, num_groups: int
) -> tuple[int, Tensor]:
    """Shares of a chunk of one utterance's frames in the averages of its groups.

    Args:
        x: (C, T), the frames from `first` on.
        first: First frame of the chunk.
        group_size: Frames of each group.
        num_groups: Groups of the utterance; frames beyond them are dropped.

    Returns:
        The first group that the chunk adds to, and the summands of that and the following ones,
        (C, groups).
    """
    first_group, skipped = divmod(first, group_size)
    kept = x[:, : max(num_groups * group_size - first, 0)]
    most = -(-(skipped + kept.shape[1]) // group_size)
    rest = most * group_size - skipped - kept.shape[1]
    groups = F.pad(kept, (skipped, rest)).view(len(x), most, group_size)
    return first_group, groups.sum(2) / group_size
