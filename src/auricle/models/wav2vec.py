"""wav2vec and vq-wav2vec: contrastive prediction by convolutions (arXiv:1904.05862, 1910.05453)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from auricle.inference.stages import (
    CODES,
    AggregatorStage,
    ExtractorStage,
    NormFunction,
    PerFrame,
    Step,
    StreamGroupNorm,
)
from auricle.info import FrameGeometry, LayerInfo
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.batch import Batch, Lengths, frames_of
from auricle.nn.conv_features import (
    AggregatorConfig,
    AggregatorLayer,
    CausalAggregator,
    ConvExtractor,
    ConvExtractorConfig,
    ExtractorLayer,
)
from auricle.nn.layers import dropout
from auricle.nn.norms import normalized
from auricle.nn.quantizer import (
    GumbelQuantizer,
    GumbelQuantizerConfig,
    KmeansQuantizer,
    KmeansQuantizerConfig,
)

NORMALIZE_EPS = 1e-5
"""Added to the variance of a waveform (torch's default, which fairseq takes)."""

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
    extractor: ConvExtractorConfig = ConvExtractorConfig(layers=LARGE_EXTRACTOR_LAYERS)
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
    def z_codebooks(self) -> int:
        """Codes of a frame that a quantiser reads from `z`."""
        return 0

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
            LayerInfo(
                name=name,
                dim=config.extractor.dim,
                geometry=geometry,
                num_codebooks=self.z_codebooks if name == "z" else 0,
            )
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
        x = dropout(frames, self.config.frame_dropout, self.training)
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


class Wav2VecConfig(ConvEncoderConfig, frozen=True, kw_only=True):
    """Configuration of a wav2vec encoder."""


class Wav2Vec(ConvEncoder):
    """wav2vec: frames `z`, then contexts that see the past."""

    family = "wav2vec"
    config_type = Wav2VecConfig
    config: Wav2VecConfig

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        x, num_frames = self.frames(batch)
        yield "z", Batch.padded(x.transpose(1, 2), num_frames)
        contexts = self.contexts(x, num_frames)
        del x  # a long one makes room for what comes next
        yield from contexts


VQ_EXTRACTOR_LAYERS = (*LARGE_EXTRACTOR_LAYERS, (512, 1, 1))


class VqWav2VecConfig(ConvEncoderConfig, frozen=True, kw_only=True):
    """Configuration of a vq-wav2vec encoder.

    Attributes:
        quantizer: What stands between frames and contexts (`vq_type`).
    """

    extractor: ConvExtractorConfig = ConvExtractorConfig(
        layers=VQ_EXTRACTOR_LAYERS, activation="gelu"
    )
    aggregator: AggregatorConfig = AggregatorConfig(
        layers=LARGE_AGGREGATOR_LAYERS, activation="gelu"
    )
    quantizer: GumbelQuantizerConfig | KmeansQuantizerConfig = GumbelQuantizerConfig(
        depth=2, is_shared=True
    )

    def __post_init__(self) -> None:
        self.quantizer.group_dim(self.extractor.dim)


class VqWav2Vec(ConvEncoder):
    """vq-wav2vec: frames `z`, the code vectors chosen for them, then contexts of those."""

    family = "vq_wav2vec"
    config_type = VqWav2VecConfig
    config: VqWav2VecConfig

    def __init__(self, config: VqWav2VecConfig) -> None:
        super().__init__(config)
        dim = config.extractor.dim
        self.quantizer: GumbelQuantizer | KmeansQuantizer
        if isinstance(config.quantizer, GumbelQuantizerConfig):
            self.quantizer = GumbelQuantizer(
                config.quantizer, dim=dim, activation=config.extractor.activation
            )
        else:
            self.quantizer = KmeansQuantizer(config.quantizer, dim=dim)

    @property
    def frame_names(self) -> tuple[str, ...]:
        return ("z", "quantized")

    @property
    def z_codebooks(self) -> int:
        return self.config.quantizer.num_groups

    def code_indices(self, frames: Batch) -> Batch:
        codes = self.quantizer.indices(frames.values.transpose(1, 2), frames.lengths)
        return Batch(codes, frames.layout)

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        x, num_frames = self.frames(batch)
        yield "z", Batch.padded(x.transpose(1, 2), num_frames)
        x = self.quantizer(x, num_frames)
        yield "quantized", Batch.padded(x.transpose(1, 2), num_frames)
        contexts = self.contexts(x, num_frames)
        del x  # a long one makes room for what comes next
        yield from contexts

    def stream_steps(self) -> Iterator[Step]:
        quantizer = self.quantizer
        yield from self.extractor_steps()

        def chosen(norm: NormFunction) -> PerFrame:
            def codes(z: Tensor) -> Tensor:
                if z.shape[2] == 0:
                    return z.new_zeros(1, quantizer.config.num_groups, 0, dtype=torch.int64)
                if isinstance(quantizer, KmeansQuantizer):
                    projected = norm(quantizer.projection(z))
                    return quantizer.nearest(projected).transpose(1, 2)
                return quantizer.indices(z, [z.shape[2]]).transpose(1, 2)

            return PerFrame(codes)

        norm = None
        if isinstance(quantizer, KmeansQuantizer):
            norm = StreamGroupNorm.of(quantizer.norm)
        yield Step(CODES, chosen, norm)

        def vectors(codes: Tensor) -> Tensor:
            groups = torch.arange(codes.shape[1], device=codes.device)
            return quantizer.tables()[groups, codes.transpose(1, 2)].flatten(2).transpose(1, 2)

        yield Step("quantized", lambda norm: PerFrame(vectors))
        yield from self.aggregator_steps()
