"""The convolutional feature extractor of wav2vec 2.0 (arXiv:2006.11477, section 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import ClassVar, Literal, cast

import msgspec
from torch import Tensor, nn

from auricle.nn.conv_stack import run_stack
from auricle.nn.norms import UtteranceGroupNorm
from auricle.nn.waveform_activations import WAVEFORM_ACTIVATIONS, WaveformActivation
from auricle.outputs import FrameGeometry, Window

NORM_EPS = 1e-5
"""Of every norm over channels, whatever the Transformer's own is (torch's default)."""

MAX_LAYERS = 1000
"""Deeper ones are taken for damaged configurations."""

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
        """Where the frames lie."""
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
            nn.Conv1d(input_dim, dim, kernel, stride, bias=config.bias)
            for input_dim, (dim, kernel, stride) in zip((1, *widths), config.layers, strict=False)
        )
        self.norms = nn.ModuleList(
            UtteranceGroupNorm(num_groups=widths[0], dim=widths[0])
            if config.norm == "group"
            else nn.LayerNorm(dim, eps=NORM_EPS)
            for dim in (widths[:1] if config.norm == "group" else widths)
        )

    def forward(self, waveforms: Tensor, num_samples: Sequence[int]) -> Tensor:
        """Frames (B, T, D) of waveforms (B, S); those past a true end hold anything."""
        # A true frame sees true samples alone, for nothing is padded: only the group norm needs
        # to know where the utterances end.
        layers = [
            _Layer(conv, norm, window, self.activation)
            for conv, norm, window in zip_longest(
                cast("list[nn.Conv1d]", list(self.convs)),
                self.norms,
                self.config.geometry.windows,
            )
        ]
        x, _ = run_stack(layers, waveforms.unsqueeze(1), num_samples)
        return x.transpose(1, 2)


@dataclasses.dataclass(frozen=True)
class _Layer:
    """One convolution of the extractor, with the norm after it if there is one, in a stack."""

    conv: nn.Conv1d
    norm: nn.Module | None
    window: Window
    activation: Callable[[Tensor], Tensor]
    has_shortcut: ClassVar[bool] = False

    @property
    def dim(self) -> int:
        return self.conv.out_channels

    @property
    def utterance_norm(self) -> UtteranceGroupNorm | None:
        return self.norm if isinstance(self.norm, UtteranceGroupNorm) else None

    def convolved(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y

    def shortcut(self, x: Tensor, steps: Sequence[int], num_frames: int) -> Tensor:
        raise NotImplementedError  # pragma: no cover - there is none

    def finished(self, y: Tensor, shortcut: Tensor | None, num_frames: Sequence[int]) -> Tensor:
        if isinstance(self.norm, nn.LayerNorm):
            y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        return self.activation(y)
