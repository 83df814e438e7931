"""vq-wav2vec: wav2vec whose frames are quantised before the contexts (arXiv:1910.05453)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from auricle.models.conv_encoder import (
    LARGE_AGGREGATOR_LAYERS,
    LARGE_EXTRACTOR_LAYERS,
    ConvEncoder,
    ConvEncoderConfig,
)
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
    def codes_layer(self) -> str | None:
        return "z"

    def code_indices(self, x: Tensor, num_frames: Sequence[int]) -> Tensor:
        return self.quantizer.indices(x.transpose(1, 2), num_frames)

    def encode(
        self, waveforms: Tensor, num_samples: Sequence[int], wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        x, num_frames = self.frames(waveforms, num_samples)
        yield "z", x.transpose(1, 2)
        x = self.quantizer(x, num_frames)
        yield "quantized", x.transpose(1, 2)
        contexts = self.contexts(x, num_frames)
        del x  # a long one makes room for what comes next
        yield from contexts


PRESETS = {
    "vq_wav2vec": VqWav2VecConfig(),
    "vq_wav2vec_kmeans": VqWav2VecConfig(quantizer=KmeansQuantizerConfig(is_shared=True)),
}
"""The published sizes."""
