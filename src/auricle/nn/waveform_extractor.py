"""The convolutional feature extractor of wav2vec 2.0 (arXiv:2006.11477, section 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import ClassVar, Literal, cast

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import FrameGeometry, Window
from auricle.nn.batch import Batch, Lengths, pad_rows
from auricle.nn.conv import Conv1d, frame_windows
from auricle.nn.conv_stack import run_stack
from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import may_bypass, split, trains_on_cpu
from auricle.nn.layers import WAVEFORM_ACTIVATIONS, WaveformActivation
from auricle.nn.norms import UtteranceGroupNorm

NORM_EPS = 1e-5
"""Of every norm over channels, whatever the Transformer's own is (torch's default)."""

MAX_LAYERS = 1000
"""Deeper ones are taken for damaged configurations."""

CHUNK_FRAMES = 50
"""Frames of a lone waveform that are encoded at once: the first layer of a second is 6.5 MB."""

COVARIANCE_FRAMES = 1 << 16
"""Windows that are held in float64 at once."""

PUBLISHED_LAYERS = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)


class ExtractorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the convolutions from samples to frames.

    Attributes:
        layers: Channels, kernel size and stride of each convolution (fairseq:
            `conv_feature_layers`; Hugging Face: `conv_dim`, `conv_kernel`, `conv_stride`).
        norm: `"group"` for a norm of each channel over time after the first convolution alone,
            `"layer"` for one over channels after each (fairseq: `extractor_mode` `default` and
            `layer_norm`; Hugging Face: `feat_extract_norm`).
        bias: Whether the convolutions have a bias (`conv_bias`).
        activation: After each convolution (Hugging Face: `feat_extract_activation`).
    """

    layers: tuple[tuple[int, int, int], ...] = PUBLISHED_LAYERS
    norm: Literal["group", "layer"] = "group"
    bias: bool = False
    activation: WaveformActivation = "gelu"

    def __post_init__(self) -> None:
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise ValueError(
                f"an extractor must have 1 to {MAX_LAYERS} convolutions, but has {len(self.layers)}"
            )
        for layer in self.layers:
            if min(layer) < 1:
                raise ValueError(
                    "channels, kernel size and stride of a convolution must be at least 1, but "
                    f"are {layer}"
                )

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


class WaveformExtractor(nn.Module):
    """Convolutions without padding, from samples to frames, each with GELU after it."""

    def __init__(self, config: ExtractorConfig) -> None:
        super().__init__()
        self.config = config
        self.activation = WAVEFORM_ACTIVATIONS[config.activation]
        widths = [channels for channels, _, _ in config.layers]
        self.convs = nn.ModuleList(
            Conv1d(input_dim, dim, kernel, stride, bias=config.bias)
            for input_dim, (dim, kernel, stride) in zip((1, *widths), config.layers, strict=False)
        )
        self.norms = nn.ModuleList(
            UtteranceGroupNorm(num_groups=widths[0], dim=widths[0])
            if config.norm == "group"
            else nn.LayerNorm(dim, eps=NORM_EPS)
            for dim in (widths[:1] if config.norm == "group" else widths)
        )

    def forward(self, waveforms: Tensor, num_samples: Lengths) -> Tensor:
        """Frames (B, T, D) of waveforms (B, S); those on padding hold anything."""
        # A valid frame sees valid samples alone, for nothing is padded: only the group norm needs
        # to know where the utterances end.
        config = self.config
        layers = [
            _Layer(conv, norm, window, dim, self.activation, config.norm)
            for conv, norm, window, (dim, _, _) in zip_longest(
                self.convs, self.norms, config.geometry.windows, config.layers
            )
        ]
        if self._goes_one_by_one(waveforms, num_samples):
            rows = Batch.padded(waveforms, num_samples).rows()
            return pad_rows([self._lone(row, layers) for row in rows])
        if self._trains_one_by_one(waveforms, num_samples):
            rows = Batch.padded(waveforms, num_samples).rows()
            # Small sums in float32 take less time than changes of layout for half the bits.
            with torch.autocast("cpu", enabled=False):
                return pad_rows([self._trained(row, layers) for row in rows])
        x, _ = run_stack(layers, waveforms.unsqueeze(1), num_samples)
        return x.transpose(1, 2)

    def _goes_one_by_one(self, waveforms: Tensor, num_samples: Lengths) -> bool:
        """True if each utterance goes through all layers by itself, by prepacked weights."""
        return (
            not isinstance(num_samples, Tensor)
            and may_bypass(*self.convs, *self.norms)
            and all(
                isinstance(conv, Conv1d) and prepack.is_packable(waveforms, conv.weight)
                for conv in self.convs
            )
        )

    def _trains_one_by_one(self, waveforms: Tensor, num_samples: Lengths) -> bool:
        """True if each utterance goes through all layers by itself, with gradients."""
        return (
            not isinstance(num_samples, Tensor)
            and trains_on_cpu(waveforms, in_autocast=True)
            and may_bypass(*self.convs, *self.norms)
            and all(type(conv) is Conv1d for conv in self.convs)
        )

    def _trained(self, samples: Tensor, layers: Sequence[_Layer]) -> Tensor:
        """As `_lone`, with gradients, whole."""
        first, *others = layers
        samples, taps, bias = _first_taps(first, samples)
        windows = frame_windows(samples.unsqueeze(1), first.window.size, first.window.stride)
        x = F.linear(windows.contiguous(), taps, bias)
        if first.utterance_norm is None:
            x = first.normed_frames(x)
        for layer in others:
            x = layer.normed_frames(layer.plain_conv.after(x, self.activation))
        return self.activation(x)

    def _lone(self, samples: Tensor, layers: Sequence[_Layer]) -> Tensor:
        """Frames (T, D) of a lone waveform (S,): chunks that stay in the CPU's cache.

        A group norm over time turns into weights of the first convolution.
        """
        geometry = self.config.geometry
        first, *others = layers
        samples, taps, bias = _first_taps(first, samples)
        has_group_norm = first.utterance_norm is not None
        num_frames = geometry.num_frames(len(samples))
        output = samples.new_empty(num_frames, self.config.dim)
        for frames in split(num_frames, CHUNK_FRAMES):
            end = (frames.stop - 1) * geometry.hop_samples + geometry.window_samples
            part = samples[frames.start * geometry.hop_samples : end].unsqueeze(1)
            windows = frame_windows(part, first.window.size, first.window.stride)
            fused = self.config.activation if has_group_norm else None
            x = prepack.packed_linear(windows, taps, bias, fused)
            if not has_group_norm:
                x = first.finished(x.T.unsqueeze(0), None, ())[0].T
            for layer in others:
                x = layer.of_frames(x, self.config.activation)
            output[frames] = x
        return output


def _first_taps(layer: _Layer, samples: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Samples (S,), weight (C, K) and bias (C,) of a first convolution, its group norm included.

    What is constant in the samples is taken away by the norm, and would cost digits before it.
    """
    if layer.utterance_norm is None:
        return samples, layer.plain_conv.weight[:, 0], layer.plain_conv.bias
    samples = samples - samples.mean(dtype=torch.float64).to(samples.dtype)
    return samples, *_normed_taps(layer, samples)


def _normed_taps(layer: _Layer, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (C, K) and bias (C,) of a first convolution and the norm over time after it.

    Mean and variance of a channel follow from mean and covariance of the windows that its filter
    sees, which are gathered in float64.
    """
    norm = layer.utterance_norm
    assert norm is not None
    windows = frame_windows(samples.unsqueeze(1), layer.window.size, layer.window.stride)
    sums = windows.new_zeros(windows.shape[1], dtype=torch.float64)
    products = torch.zeros(len(sums), len(sums), dtype=torch.float64)
    for part in torch.split(windows, COVARIANCE_FRAMES):
        wide = part.double()
        sums += wide.sum(0)
        products += wide.T @ wide
    mean = sums / len(windows)
    covariance = products / len(windows) - torch.outer(mean, mean)
    taps = layer.plain_conv.weight[:, 0].double()
    variance = ((taps @ covariance) * taps).sum(1).clamp(min=0.0)
    scale = (variance + NORM_EPS).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -(taps @ mean) * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    return (taps * scale.unsqueeze(1)).to(samples.dtype), shift.to(samples.dtype)


@dataclasses.dataclass(frozen=True)
class _Layer:
    """One convolution of the extractor, with the norm after it if there is one, in a stack."""

    conv: nn.Module
    norm: nn.Module | None
    window: Window
    dim: int
    activation: Callable[[Tensor], Tensor]
    norm_kind: Literal["group", "layer"]
    has_shortcut: ClassVar[bool] = False

    @property
    def parts(self) -> Sequence[nn.Module]:
        return (self.conv,) if self.norm is None else (self.conv, self.norm)

    @property
    def plain_conv(self) -> Conv1d:
        """The convolution, of layers that may be bypassed."""
        return cast("Conv1d", self.conv)

    @property
    def utterance_norm(self) -> UtteranceGroupNorm | None:
        return cast("UtteranceGroupNorm", self.norm) if self.norm_kind == "group" else None

    def convolved(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y

    def of_frames(self, frames: Tensor, activation: WaveformActivation) -> Tensor:
        """Output (T', N) for frames (T, C), by packed weights."""
        stride = self.window.stride
        fused = None if self.norm is not None else activation
        y = self.plain_conv.convolve_frames(frames, stride=stride, activation=fused)
        return y if self.norm is None else self.activation(self.norm(y))

    def normed_frames(self, frames: Tensor) -> Tensor:
        """Frames (T, N) of the convolution after the norm over channels, if there is one."""
        normed: Tensor = frames if self.norm is None else self.norm(frames)
        return normed

    def shortcut(self, x: Tensor, steps: Lengths, num_frames: int) -> Tensor:
        raise NotImplementedError  # pragma: no cover - there is none

    def finished(self, y: Tensor, shortcut: Tensor | None, num_frames: Lengths) -> Tensor:
        if self.norm is not None and self.norm_kind == "layer":
            y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        return self.activation(y)
