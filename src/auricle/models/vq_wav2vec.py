"""vq-wav2vec: wav2vec whose frames are quantised before the contexts (arXiv:1910.05453)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from auricle.inference.streaming.norms import NormFunction, StreamGroupNorm
from auricle.inference.streaming.stages import CODES, PerFrame, Step
from auricle.info import LayerInfo
from auricle.models.conv_encoder import (
    LARGE_AGGREGATOR_LAYERS,
    LARGE_EXTRACTOR_LAYERS,
    ConvEncoder,
    ConvEncoderConfig,
)
from auricle.nn.batch import Batch
from auricle.nn.conv_features import AggregatorConfig, ExtractorConfig
from auricle.nn.vector_quantizer import (
    GumbelQuantizer,
    GumbelQuantizerConfig,
    KmeansQuantizer,
    KmeansQuantizerConfig,
)

VQ_EXTRACTOR_LAYERS = (*LARGE_EXTRACTOR_LAYERS, (512, 1, 1))


class VqWav2VecConfig(ConvEncoderConfig, frozen=True, kw_only=True):
    """Configuration of a vq-wav2vec encoder.

    Attributes:
        quantizer: What stands between frames and contexts (`vq_type`).
    """

    extractor: ExtractorConfig = ExtractorConfig(layers=VQ_EXTRACTOR_LAYERS, activation="gelu")
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
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        z, *others = super().layer_infos
        num_codebooks = self.config.quantizer.num_groups
        return (dataclasses.replace(z, num_codebooks=num_codebooks), *others)

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
