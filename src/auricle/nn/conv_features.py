"""Convolutions with one norm over the utterance: wav2vec's extractor and its causal aggregator.

wav2vec (arXiv:1904.05862, section 2) and vq-wav2vec (arXiv:1910.05453) are made of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from auricle.info import FrameGeometry, Window
from auricle.nn.batch import Lengths, as_tensor
from auricle.nn.conv import Conv1d
from auricle.nn.conv_stack import StackLayer, StackModule, run_stack
from auricle.nn.cpu.policy import acts, may_overwrite
from auricle.nn.layers import ACTIVATIONS, Activation, check_depth, dropout
from auricle.nn.norms import UtteranceGroupNorm

ConvLayers = tuple[tuple[int, int, int], ...]
"""Channels, kernel size and stride of each convolution."""


class ConvExtractorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the convolutions from samples to frames.

    Attributes:
        layers: Channels, kernel size and stride of each (`conv_feature_layers`).
        activation: After each norm (`activation`).
        affine_norm: Whether norms scale and shift channels (not `non_affine_group_norm`).
        residual_scale: Where layers that keep the width add their input, subsampled to their
            frames (`skip_connections_feat`), the square of what the sum is multiplied by
            (`residual_scale`); None where they do not.
        log_compression: Whether the output is `log(|x| + 1)` (`log_compression`).
    """

    layers: ConvLayers
    activation: Activation = "relu"
    affine_norm: bool = True
    residual_scale: float | None = None
    log_compression: bool = True

    def __post_init__(self) -> None:
        _check_layers(self.layers, self.residual_scale)

    @property
    def dim(self) -> int:
        """Channels of the last convolution."""
        return self.layers[-1][0]

    @property
    def geometry(self) -> FrameGeometry:
        """The geometry of the frames."""
        return FrameGeometry(
            tuple(Window(size=kernel, stride=stride) for _, kernel, stride in self.layers)
        )


class AggregatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the causal convolutions from frames to contexts.

    Attributes:
        layers: Channels, kernel size and stride of each (`conv_aggregator_layers`).
        activation: After each norm (`activation`).
        affine_norm: Whether norms scale and shift channels (not `non_affine_group_norm`).
        bias: Whether convolutions have a bias (not `no_conv_bias`).
        zero_padding: Whether zeros stand before the first frame, not copies of it
            (`agg_zero_pad`).
        residual_scale: Where each layer adds its input (`skip_connections_agg`), the square of
            what the sum is multiplied by (`residual_scale`); None where they do not.
        dropout: After each convolution in training (`dropout`).
    """

    layers: ConvLayers
    activation: Activation = "relu"
    affine_norm: bool = True
    bias: bool = True
    zero_padding: bool = False
    residual_scale: float | None = 0.5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_layers(self.layers, self.residual_scale)
        strides = [stride for _, _, stride in self.layers]
        if self.residual_scale is not None and max(strides) > 1:
            raise ValueError(
                f"aggregator layers that add their input must have stride 1, but have {strides}"
            )

    @property
    def windows(self) -> tuple[Window, ...]:
        """Sliding window of each layer; that it sees the past is not counted."""
        return tuple(Window(size=1, stride=stride) for _, _, stride in self.layers)


class ExtractorLayer(StackModule):
    """Convolution without padding or bias, group norm, activation, and a residual if asked."""

    def __init__(self, config: ConvExtractorConfig, *, index: int) -> None:
        super().__init__()
        input_dim = config.layers[index - 1][0] if index else 1
        self.dim, kernel, stride = config.layers[index]
        self.window = config.geometry.windows[index]
        self.activation = ACTIVATIONS[config.activation]
        self.residual_scale = config.residual_scale if input_dim == self.dim else None
        self.conv = Conv1d(input_dim, self.dim, kernel, stride, bias=False)
        self.norm = UtteranceGroupNorm(num_groups=1, dim=self.dim, affine=config.affine_norm)

    @property
    def utterance_norm(self) -> UtteranceGroupNorm:
        return self.norm

    @property
    def has_shortcut(self) -> bool:
        return self.residual_scale is not None

    def convolved(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y

    def shortcut(self, x: Tensor, steps: Lengths, num_frames: int) -> Tensor:
        return subsampled(x, steps, num_frames)

    def finished(self, y: Tensor, shortcut: Tensor | None, num_frames: Lengths) -> Tensor:
        return _joined(self.activation(y), shortcut, self.residual_scale)


class ConvExtractor(nn.Module):
    """Convolutions from samples to frames, each norm over the whole utterance."""

    def __init__(self, config: ConvExtractorConfig) -> None:
        super().__init__()
        self.log_compression = config.log_compression
        self.layers = nn.ModuleList(
            ExtractorLayer(config, index=index) for index in range(len(config.layers))
        )

    def forward(self, waveforms: Tensor, num_samples: Lengths) -> tuple[Tensor, Lengths]:
        """Frames (B, D, T) of waveforms (B, S), and the counts of valid ones.

        On padding the waveforms hold zeros, the frames anything.
        """
        # Nothing is padded, so a valid frame sees valid samples alone, whatever follows them.
        layers = cast("list[StackLayer]", list(self.layers))
        x, lengths = run_stack(layers, waveforms.unsqueeze(1), num_samples)
        if not self.log_compression:
            return x, lengths
        is_own = may_overwrite(*self.layers)
        return x.abs_().log1p_() if is_own else torch.log1p(x.abs()), lengths


class AggregatorLayer(StackModule):
    """Causal convolution, group norm, activation, and a residual if asked."""

    def __init__(self, config: AggregatorConfig, *, index: int, input_dim: int) -> None:
        super().__init__()
        self.dim, kernel, stride = config.layers[index]
        self.window = Window(size=kernel, stride=stride, pad_left=kernel - 1)
        self.zero_padding = config.zero_padding
        self.activation = ACTIVATIONS[config.activation]
        self.dropout = config.dropout
        self.residual_scale = config.residual_scale
        self.conv = Conv1d(input_dim, self.dim, kernel, stride, bias=config.bias)
        self.norm = UtteranceGroupNorm(num_groups=1, dim=self.dim, affine=config.affine_norm)
        self.residual: nn.Identity | nn.Conv1d = nn.Identity()
        if config.residual_scale is not None and input_dim != self.dim:
            self.residual = Conv1d(input_dim, self.dim, 1, bias=False)

    @property
    def utterance_norm(self) -> UtteranceGroupNorm:
        return self.norm

    @property
    def has_shortcut(self) -> bool:
        return self.residual_scale is not None

    def convolved(self, x: Tensor) -> Tensor:
        past = x[:, :, :1].expand(-1, -1, self.window.pad_left)
        if self.zero_padding:
            past = torch.zeros_like(past)
        # Joined frame by frame, so that they lie in memory as they are read.
        frames = torch.cat([past.transpose(1, 2), x.transpose(1, 2)], dim=1)
        y = self.conv(frames.transpose(1, 2))
        return dropout(y, self.dropout, self.training)

    def shortcut(self, x: Tensor, steps: Lengths, num_frames: int) -> Tensor:
        # Layers with a residual have stride 1.
        shortcut: Tensor = self.residual(x[:, :, :num_frames])
        return shortcut

    def finished(self, y: Tensor, shortcut: Tensor | None, num_frames: Lengths) -> Tensor:
        return _joined(self.activation(y), shortcut, self.residual_scale)


class CausalAggregator(nn.Module):
    """Causal convolutions from frames to contexts, each norm over the whole utterance."""

    def __init__(self, config: AggregatorConfig, *, input_dim: int) -> None:
        super().__init__()
        widths = [input_dim, *(dim for dim, _, _ in config.layers)]
        self.layers = nn.ModuleList(
            AggregatorLayer(config, index=index, input_dim=widths[index])
            for index in range(len(config.layers))
        )

    def forward(self, x: Tensor, num_frames: Lengths) -> Iterable[Tensor]:
        """Each layer's output (B, C, T) for the frames `x` (B, D, T), as they are asked for."""
        outputs = self._outputs(x, num_frames)
        return tuple(outputs) if acts(self) else outputs

    def _outputs(self, x: Tensor, num_frames: Lengths) -> Iterator[Tensor]:
        # What is on padding stays there, for no layer looks ahead.
        lengths = num_frames
        for layer in cast("list[StackLayer]", list(self.layers)):
            x, lengths = run_stack([layer], x, lengths)
            yield x


def _joined(y: Tensor, shortcut: Tensor | None, residual_scale: float | None) -> Tensor:
    """The output of a layer from its activations and its input's share."""
    if shortcut is None or residual_scale is None:
        return y
    return (y + shortcut) * math.sqrt(residual_scale)


def subsampled(x: Tensor, steps: Lengths, num_frames: int) -> Tensor:
    """(B, C, num_frames): of row b of `x` (B, C, T) every `steps[b]`-th frame from the first.

    Where a row runs out of frames its last one is repeated.
    """
    step = as_tensor(steps, x.device).unsqueeze(1)
    frames = torch.arange(num_frames, device=x.device) * step
    frames = frames.clamp(max=x.shape[2] - 1)
    return x.gather(2, frames.unsqueeze(1).expand(-1, x.shape[1], -1))


def _check_layers(layers: ConvLayers, residual_scale: float | None) -> None:
    check_depth(len(layers))
    for layer in layers:
        if min(layer) < 1:
            raise ValueError(
                "channels, kernel size and stride of a convolution must be at least 1, but are "
                f"{layer}"
            )
    if residual_scale is not None and residual_scale < 0:
        raise ValueError(f"residual_scale must be at least 0, but is {residual_scale}")
