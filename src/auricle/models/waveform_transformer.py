"""Encoders over convolutional frames: wav2vec 2.0 and its Conformer, HuBERT, WavLM and data2vec."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from auricle.info import FinalNorm, LayerInfo
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.attention import RelativePositionConfig
from auricle.nn.batch import Batch, Layout, frames_of
from auricle.nn.conformer import Conformer, ConformerConfig
from auricle.nn.conv import Linear
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.cpu.policy import is_frozen, map_chunks, may_pack
from auricle.nn.layers import dropout
from auricle.nn.norms import centred, normalized
from auricle.nn.relative_positions import DistanceConfig
from auricle.nn.transformer import TransformerConfig, WaveformTransformer
from auricle.nn.waveform_extractor import ExtractorConfig, WaveformExtractor

PRE_RESIDUAL = "pre_residual"
"""Tap of a layer: its feed-forward part's output, before the residual is added to it (fairseq:
`layer_result` of `TransformerSentenceEncoderLayer`)."""


class WaveformEncoderConfig(Config, frozen=True, kw_only=True):
    """Configuration of an encoder over convolutional frames of the waveform.

    Attributes:
        normalize: Whether waveforms are brought to zero mean and unit variance (fairseq:
            `task.normalize`; Hugging Face: `do_normalize` of the preprocessor).
        normalize_eps: What is added to the variance (fairseq 1e-5, Hugging Face 1e-7).
        extractor: The convolutions from samples to frames.
        projection_norm: Whether a norm follows the extractor (`feat_proj_layer_norm`).
        projection: Whether a linear layer leads to the width of the layers (fairseq leaves it
            out where the widths agree).
        projection_dropout: After it in training (`dropout_input`; `feat_proj_dropout`).
    """

    normalize: bool = False
    normalize_eps: float = 1e-5
    extractor: ExtractorConfig = ExtractorConfig()
    projection_norm: bool = True
    projection: bool = True
    projection_dropout: float = 0.0

    def check_projection(self, width: int) -> None:
        """Raise ValueError unless layers of that width can follow the extractor."""
        if not self.projection and self.extractor.dim != width:
            raise ValueError(
                "without a projection the extractor must be as wide as the layers, but they are "
                f"{self.extractor.dim} and {width} wide"
            )


class WaveformTransformerConfig(WaveformEncoderConfig, frozen=True, kw_only=True):
    """Configuration of a Transformer over convolutional frames of the waveform.

    Attributes:
        transformer: The layers.
    """

    transformer: TransformerConfig = TransformerConfig()

    def __post_init__(self) -> None:
        self.check_projection(self.transformer.hidden_size)


class WaveformEncoder(Encoder):
    """Layers over convolutional frames; every frame attends to the whole utterance."""

    looks_ahead = True
    config: WaveformEncoderConfig

    def __init__(
        self, config: WaveformEncoderConfig, layers: TransformerConfig | ConformerConfig
    ) -> None:
        super().__init__(config)
        self._width = layers.hidden_size
        self._num_layers = layers.num_layers
        self.extractor = WaveformExtractor(config.extractor)
        self.projection_norm: nn.Module = nn.Identity()
        if config.projection_norm:
            self.projection_norm = nn.LayerNorm(config.extractor.dim, eps=layers.layer_norm_eps)
        self.projection: nn.Module = nn.Identity()
        if config.projection:
            self.projection = Linear(config.extractor.dim, self._width)

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        return self._stack_infos()

    def _stack_infos(self) -> tuple[LayerInfo, ...]:
        """The stack's input and the output of each of its layers."""
        # Convolutions among the layers reach further, but attention reaches everywhere as it is.
        geometry = self.config.extractor.geometry
        names = ["input", *(f"layer_{index + 1}" for index in range(self._num_layers))]
        return tuple(LayerInfo(name=name, dim=self._width, geometry=geometry) for name in names)

    @property
    def uses_utterance_statistics(self) -> bool:
        return self.config.normalize or self.config.extractor.norm == "group"

    def encoded_by(
        self,
        stack: nn.Module,
        batch: Batch,
        wanted: frozenset[str],
        final_norm: FinalNorm,
        names: Sequence[str] | None = None,
        **options: Any,
    ) -> Iterator[tuple[str, Batch]]:
        """`encode_normed` by a stack, whose states have these names with such options."""
        if final_norm != "keep":  # a stack in the place of ours need not know of it
            options["final_norm"] = final_norm
        frames = self.latents(batch)
        is_packed = may_pack(frames.values, frames.lengths, stack)
        layout = Layout(frames.lengths, is_packed=is_packed)
        states = stack(self._projected(frames.values), layout, **options)
        del batch, frames
        yield from self.named_states(states, layout, wanted, names)

    def latents(self, batch: Batch) -> Batch:
        """The extractor's frames (B, T, D) of waveforms (B, S); padding may hold anything."""
        config, waveforms, num_samples = self.config, batch.values, batch.lengths
        if config.normalize:
            waveforms = normalized(waveforms, num_samples, eps=config.normalize_eps)
        elif config.extractor.norm == "group":
            # The norm removes what an offset adds to a channel; here it goes without loss.
            waveforms = centred(waveforms, num_samples)
        waveforms = waveforms.to(self.dtype)
        # A frozen extractor infers, and keeps nothing for the backward pass.
        frozen = torch.no_grad() if is_frozen(self.extractor, [waveforms]) else nullcontext()
        with frozen:
            frames = self.extractor(waveforms, num_samples)
        return Batch.padded(frames, frames_of(config.extractor.geometry, num_samples))

    def _projected(self, frames: Tensor) -> Tensor:
        """The first layer's input (B, T, D) of the extractor's frames."""

        def project(chunk: slice) -> Tensor:
            projected: Tensor = self.projection(self.projection_norm(frames[:, chunk]))
            return projected

        frame_bytes = frames.shape[0] * self._width * frames.element_size()
        parts = (self.projection_norm, self.projection)
        x = map_chunks(project, frames.shape[1], 2 * frame_bytes, parts)
        return dropout(x, self.config.projection_dropout, self.training)


class WaveformTransformerEncoder(WaveformEncoder):
    """A Transformer over convolutional frames; every frame attends to the whole utterance."""

    config: WaveformTransformerConfig

    def __init__(self, config: WaveformTransformerConfig) -> None:
        super().__init__(config, config.transformer)
        self.transformer = WaveformTransformer(
            config.transformer, position_activation=config.extractor.activation
        )

    @property
    def taps(self) -> tuple[LayerInfo, ...]:
        _, *layers = self.layer_infos
        named = zip(layers, self._ffn_names, strict=True)
        return tuple(dataclasses.replace(info, name=name) for info, name in named)

    @property
    def _ffn_names(self) -> list[str]:
        """Name of each layer's feed-forward output, before dropout, residual and norm."""
        count = self.config.transformer.num_layers
        return [f"layer_{index + 1}.{PRE_RESIDUAL}" for index in range(count)]

    @property
    def has_final_norm(self) -> bool:
        return self.config.transformer.pre_layer_norm

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        return self.encode_normed(batch, wanted, "keep")

    def encode_normed(
        self, batch: Batch, wanted: frozenset[str], final_norm: FinalNorm
    ) -> Iterator[tuple[str, Batch]]:
        ffn_of = [index for index, name in enumerate(self._ffn_names) if name in wanted]
        options: dict[str, Any] = {"tapped": ffn_of} if ffn_of else {}
        names = ["input"]
        for index, ffn in enumerate(self._ffn_names):
            names += [ffn] if index in ffn_of else []
            names.append(f"layer_{index + 1}")
        return self.encoded_by(self.transformer, batch, wanted, final_norm, names, **options)


class Wav2Vec2Config(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a wav2vec 2.0 encoder."""


class Wav2Vec2(WaveformTransformerEncoder):
    """wav2vec 2.0: a Transformer trained to find a masked frame's quantised latent among others."""

    family = "wav2vec2"
    no_codes_reason = (
        "has no quantiser (that of wav2vec 2.0 served pretraining only and is not part of the "
        "encoder)"
    )
    config_type = Wav2Vec2Config
    config: Wav2Vec2Config


class HubertConfig(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a HuBERT encoder."""


class Hubert(WaveformTransformerEncoder):
    """HuBERT: a Transformer trained to predict the cluster of each masked frame."""

    family = "hubert"
    config_type = HubertConfig
    config: HubertConfig


_RELATIVE_POSITIONS = TransformerConfig(relative_positions=RelativePositionConfig())


class WavLmConfig(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a WavLM encoder."""

    transformer: TransformerConfig = _RELATIVE_POSITIONS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.transformer.relative_positions is None:
            raise ValueError("a WavLM must have relative_positions, but this one has none")


class WavLm(WaveformTransformerEncoder):
    """WavLM: a Transformer whose attention knows distances, trained on speech mixed with noise."""

    family = "wavlm"
    config_type = WavLmConfig
    config: WavLmConfig


_STACK = ConvPositionConfig(kind="stack", kernel_size=19, depth=5)
_STACKED_POSITIONS = TransformerConfig(positions=_STACK)


class Data2VecConfig(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a data2vec audio encoder."""

    normalize: bool = True
    extractor: ExtractorConfig = ExtractorConfig(norm="layer")
    transformer: TransformerConfig = _STACKED_POSITIONS


class Data2Vec(WaveformTransformerEncoder):
    """data2vec audio: a Transformer trained on the average of its own smoothed layers."""

    family = "data2vec"
    config_type = Data2VecConfig
    config: Data2VecConfig


_SINUSOIDAL = ConformerConfig(positions=DistanceConfig(kind="sinusoidal"), final_norm="last")


class Wav2Vec2ConformerConfig(WaveformEncoderConfig, frozen=True, kw_only=True):
    """Configuration of a wav2vec 2.0 Conformer encoder.

    Attributes:
        conformer: The blocks.
    """

    conformer: ConformerConfig = _SINUSOIDAL

    def __post_init__(self) -> None:
        self.check_projection(self.conformer.hidden_size)


class Wav2Vec2Conformer(WaveformEncoder):
    """wav2vec 2.0 with Conformer blocks, whose distances take the place of convolved positions."""

    family = "wav2vec2_conformer"
    config_type = Wav2Vec2ConformerConfig
    config: Wav2Vec2ConformerConfig

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__(config, config.conformer)
        self.conformer = Conformer(config.conformer)

    @property
    def has_final_norm(self) -> bool:
        return self.config.conformer.final_norm == "last"

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        return self.encode_normed(batch, wanted, "keep")

    def encode_normed(
        self, batch: Batch, wanted: frozenset[str], final_norm: FinalNorm
    ) -> Iterator[tuple[str, Batch]]:
        return self.encoded_by(self.conformer, batch, wanted, final_norm)
