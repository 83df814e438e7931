"""The convolutional encoder that wav2vec and vq-wav2vec share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from auricle.geometry import FrameGeometry
from auricle.inference.streaming.norms import StreamGroupNorm
from auricle.inference.streaming.stages import AggregatorStage, ExtractorStage, PerFrame, Step
from auricle.info import LayerInfo
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.batch import Batch, Lengths, frames_of
from auricle.nn.conv_features import (
    AggregatorConfig,
    AggregatorLayer,
    CausalAggregator,
    ConvExtractor,
    ExtractorConfig,
    ExtractorLayer,
)
from auricle.nn.waveform_norm import normalized

NORMALIZE_EPS = 1e-5
"""What is added to the variance of a waveform (torch's default, which fairseq takes)."""

LARGE_EXTRACTOR_LAYERS = (
    (512, 10, 5),
    (512, 8, 4),
    *((512, 4, 2),) * 3,
    *((512, 1, 1),) * 2,
)
"""wav2vec large."""

LARGE_AGGREGATOR_LAYERS = tuple((512, kernel, 1) for kernel in range(2, 14))
"""wav2vec large, vq-wav2vec."""


class ConvEncoderConfig(Config, frozen=True, kw_only=True):
    """Configuration of convolutions from samples to frames and from frames to contexts.

    Attributes:
        normalize: Whether waveforms are brought to zero mean and unit variance (`normalize` of
            the task; no published file does).
        extractor: The convolutions from samples to frames.
        frame_dropout: Dropout of what the aggregator reads, in training (`dropout_features`).
        aggregator: The convolutions from frames to contexts.
    """

    normalize: bool = False
    extractor: ExtractorConfig = ExtractorConfig(layers=LARGE_EXTRACTOR_LAYERS)
    frame_dropout: float = 0.0
    aggregator: AggregatorConfig = AggregatorConfig(layers=LARGE_AGGREGATOR_LAYERS)


class ConvEncoder(Encoder):
    """Convolutions from samples to frames (`z`), then causal ones to contexts."""

    sees_past = True
    config: ConvEncoderConfig

    def __init__(self, config: ConvEncoderConfig) -> None:
        super().__init__(config)
        self.extractor = ConvExtractor(config.extractor)
        self.aggregator = CausalAggregator(config.aggregator, input_dim=config.extractor.dim)

    @property
    def frame_names(self) -> tuple[str, ...]:
        """Names of the layers before the aggregator."""
        return ("z",)

    @property
    def context_names(self) -> tuple[str, ...]:
        """Names of the aggregator's layers."""
        num_layers = len(self.config.aggregator.layers)
        return (*(f"agg_{index + 1}" for index in range(num_layers - 1)), "context")

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        config = self.config
        geometry = config.extractor.geometry
        layers = [
            LayerInfo(name=name, dim=config.extractor.dim, geometry=geometry)
            for name in self.frame_names
        ]
        aggregator = config.aggregator
        for name, (dim, _, _), window in zip(
            self.context_names, aggregator.layers, aggregator.windows, strict=True
        ):
            geometry = geometry.then(window)
            layers.append(LayerInfo(name=name, dim=dim, geometry=geometry))
        return tuple(layers)

    @property
    def uses_utterance_statistics(self) -> bool:
        return True

    def frames(self, batch: Batch) -> tuple[Tensor, Lengths]:
        """Frames z (B, D, T) of waveforms (B, S), and the count of valid ones."""
        waveforms = batch.values
        if self.config.normalize:
            waveforms = normalized(waveforms, batch.lengths, eps=NORMALIZE_EPS)
        z, num_frames = self.extractor(waveforms.to(self.dtype), batch.lengths)
        return z, num_frames

    def contexts(self, frames: Tensor, num_frames: Lengths) -> Iterator[tuple[str, Batch]]:
        """Yield the aggregator's layers (B, T, D) by name, for frames (B, D, T)."""
        x = F.dropout(frames, self.config.frame_dropout, self.training)
        outputs = self.aggregator(x, num_frames)
        del frames, x  # long ones make room for what comes next
        windows = self.config.aggregator.windows
        for name, window, output in zip(self.context_names, windows, outputs, strict=True):
            num_frames = frames_of(FrameGeometry((window,)), num_frames)
            yield name, Batch.padded(output.transpose(1, 2), num_frames)

    def stream_steps(self) -> Iterator[Step]:
        yield from self.extractor_steps()
        yield from self.aggregator_steps()

    def extractor_steps(self) -> Iterator[Step]:
        """The steps of a stream from samples to frames `z`.

        Raises:
            AuricleError: A residual is subsampled by the ratio of the utterance's lengths.
        """
        config = self.config
        layers = [layer for layer in self.extractor.layers if isinstance(layer, ExtractorLayer)]
        for layer in layers:
            if layer.residual_scale is not None and layer.conv.stride[0] > 1:
                raise self.stream_refusal(
                    "its extractor adds inputs (residual_scale) of layers with strides, and thins "
                    "them by the ratio of the whole utterance's lengths"
                )
        waveform_norm = None
        if config.normalize:
            waveform_norm = StreamGroupNorm(num_groups=1, eps=NORMALIZE_EPS)
        yield Step(
            "waveform", lambda norm: PerFrame(lambda x: norm(x).to(self.dtype)), waveform_norm
        )
        for index, layer in enumerate(layers):
            is_last = index + 1 == len(layers)
            yield Step(
                "z" if is_last else f"conv_{index + 1}",
                partial(ExtractorStage, layer, config.extractor.log_compression and is_last),
                StreamGroupNorm.of(layer.norm),
            )

    def aggregator_steps(self) -> Iterator[Step]:
        """The steps of a stream from frames to contexts."""
        for name, layer in zip(self.context_names, self.aggregator.layers, strict=True):
            assert isinstance(layer, AggregatorLayer)
            yield Step(name, partial(AggregatorStage, layer), StreamGroupNorm.of(layer.norm))
