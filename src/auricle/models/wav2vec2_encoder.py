"""The encoder that wav2vec 2.0, HuBERT, WavLM and data2vec share."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import LayerInfo
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.batch import Batch, Layout, frames_of
from auricle.nn.cpu.policy import may_pack
from auricle.nn.linear import Linear
from auricle.nn.stretches import by_stretches
from auricle.nn.waveform_extractor import ExtractorConfig, WaveformExtractor
from auricle.nn.waveform_norm import centred, normalized
from auricle.nn.waveform_transformer import TransformerConfig, WaveformTransformer


class WaveformTransformerConfig(Config, frozen=True, kw_only=True):
    """Configuration of a Transformer over convolutional frames of the waveform.

    Attributes:
        normalize: Whether waveforms are brought to zero mean and unit variance (fairseq:
            `task.normalize`; Hugging Face: `do_normalize` of the preprocessor).
        normalize_eps: What is added to the variance (fairseq 1e-5, Hugging Face 1e-7).
        extractor: The convolutions from samples to frames.
        projection_norm: Whether a norm follows the extractor (`feat_proj_layer_norm`).
        projection: Whether a linear layer leads to the Transformer's width (fairseq leaves it
            out where the widths agree).
        projection_dropout: After it in training (`dropout_input`; `feat_proj_dropout`).
        transformer: The layers.
    """

    normalize: bool = False
    normalize_eps: float = 1e-5
    extractor: ExtractorConfig = ExtractorConfig()
    projection_norm: bool = True
    projection: bool = True
    projection_dropout: float = 0.0
    transformer: TransformerConfig = TransformerConfig()

    def __post_init__(self) -> None:
        if not self.projection and self.extractor.dim != self.transformer.hidden_size:
            raise ValueError(
                "without a projection the extractor must be as wide as the Transformer, but they "
                f"are {self.extractor.dim} and {self.transformer.hidden_size} wide"
            )


class WaveformTransformerEncoder(Encoder):
    """A Transformer over convolutional frames; every frame attends to the whole utterance."""

    looks_ahead = True
    config: WaveformTransformerConfig

    def __init__(self, config: WaveformTransformerConfig) -> None:
        super().__init__(config)
        width = config.extractor.dim
        self.extractor = WaveformExtractor(config.extractor)
        self.projection_norm: nn.Module = nn.Identity()
        if config.projection_norm:
            self.projection_norm = nn.LayerNorm(width, eps=config.transformer.layer_norm_eps)
        self.projection: nn.Module = nn.Identity()
        if config.projection:
            self.projection = Linear(width, config.transformer.hidden_size)
        self.transformer = WaveformTransformer(
            config.transformer, position_activation=config.extractor.activation
        )

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        transformer = self.config.transformer
        # The position convolutions reach further, but attention reaches everywhere as it is.
        geometry = self.config.extractor.geometry
        names = ["input", *(f"layer_{index + 1}" for index in range(transformer.num_layers))]
        return tuple(
            LayerInfo(name=name, dim=transformer.hidden_size, geometry=geometry) for name in names
        )

    @property
    def uses_utterance_statistics(self) -> bool:
        return self.config.normalize or self.config.extractor.norm == "group"

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        frames = self.latents(batch)
        layout = Layout(frames.lengths, is_packed=may_pack(frames.lengths, self.transformer))
        states = iter(self.transformer(self._projected(frames.values), layout))
        del batch, frames
        for info in self.layer_infos:
            # Do not bind the output: no reference may keep it alive while the next layer runs.
            if info.name in wanted:
                yield info.name, Batch(next(states), layout)
            else:
                next(states)

    def latents(self, batch: Batch) -> Batch:
        """The extractor's frames (B, T, D) of waveforms (B, S); padding may hold anything."""
        config, waveforms, num_samples = self.config, batch.values, batch.lengths
        if config.normalize:
            waveforms = normalized(waveforms, num_samples, eps=config.normalize_eps)
        elif config.extractor.norm == "group":
            # The norm removes what an offset adds to a channel; here it goes without loss.
            waveforms = centred(waveforms, num_samples)
        frames = self.extractor(waveforms.to(self.dtype), num_samples)
        return Batch.padded(frames, frames_of(config.extractor.geometry, num_samples))

    def _projected(self, frames: Tensor) -> Tensor:
        """What enters the Transformer (B, T, D) of the extractor's frames."""

        def project(stretch: slice) -> Tensor:
            projected: Tensor = self.projection(self.projection_norm(frames[:, stretch]))
            return projected

        frame_bytes = frames.shape[0] * self.config.transformer.hidden_size * frames.element_size()
        parts = (self.projection_norm, self.projection)
        x = by_stretches(project, frames.shape[1], 2 * frame_bytes, parts)
        return F.dropout(x, self.config.projection_dropout, self.training)
