"""Transformers and Conformers over convolutional frames: wav2vec 2.0, HuBERT, WavLM, data2vec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import LayerInfo
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.activations import WaveformActivation
from auricle.nn.attention import RelativePositionBias, RelativePositionConfig
from auricle.nn.batch import Batch, Layout, frames_of, padding_mask, zero_padding
from auricle.nn.chunking import map_chunks
from auricle.nn.conformer import Conformer, ConformerConfig
from auricle.nn.conv_positions import ConvPositionConfig, ConvPositions
from auricle.nn.cpu.policy import acts, may_pack
from auricle.nn.depth import check_depth, is_left_out
from auricle.nn.linear import Linear
from auricle.nn.norms import centred, normalized
from auricle.nn.relative_positions import DistanceConfig
from auricle.nn.transformer import TransformerLayer
from auricle.nn.waveform_extractor import ExtractorConfig, WaveformExtractor

POSITION_VALUES = 8
"""Values per feature that stand in memory while positions are computed."""


class TransformerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the Transformer over the extractor's frames.

    Attributes:
        hidden_size: Width (fairseq: `encoder_embed_dim`).
        num_layers: Layers (`encoder_layers`; Hugging Face: `num_hidden_layers`).
        num_heads: Attention heads (`encoder_attention_heads`; `num_attention_heads`).
        ffn_size: Width of the feed-forward part (`encoder_ffn_embed_dim`; `intermediate_size`).
        activation: Of the feed-forward part (`activation_fn`; `hidden_act`).
        pre_layer_norm: Whether norms come before attention and feed-forward, with one more after
            the last layer (`layer_norm_first`; `do_stable_layer_norm`), or after them, with one
            more before the first.
        layer_norm_eps: Of every norm (1e-5; `layer_norm_eps`).
        positions: The convolutions that give positions.
        relative_positions: The bias of attention scores (WavLM), or None.
        dropout: Of both residual branches and of the input in training (`dropout`;
            `hidden_dropout`).
        attention_dropout: Of attention weights in training (`attention_dropout`).
        activation_dropout: Inside the feed-forward part in training (`activation_dropout`).
        layer_drop: Probability of leaving out a layer in training (`encoder_layerdrop`;
            `layerdrop`).
    """

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    ffn_size: int = 3072
    activation: WaveformActivation = "gelu"
    pre_layer_norm: bool = False
    layer_norm_eps: float = 1e-5
    positions: ConvPositionConfig = ConvPositionConfig()
    relative_positions: RelativePositionConfig | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    layer_drop: float = 0.05

    def __post_init__(self) -> None:
        check_depth(self.num_layers)
        if min(self.hidden_size, self.num_heads, self.ffn_size) < 1:
            raise ValueError(
                "hidden_size, num_heads and ffn_size must be at least 1, but are "
                f"{self.hidden_size}, {self.num_heads} and {self.ffn_size}"
            )
        for name, divisor in (
            ("num_heads", self.num_heads),
            ("positions.num_groups", self.positions.num_groups),
        ):
            if self.hidden_size % divisor:
                raise ValueError(
                    f"hidden_size must be a multiple of {name} ({divisor}), but is "
                    f"{self.hidden_size}"
                )


class WaveformTransformer(nn.Module):
    """Projected frames to hidden states: positions, norm, layers."""

    def __init__(
        self, config: TransformerConfig, *, position_activation: WaveformActivation
    ) -> None:
        super().__init__()
        self.config = config
        self.positions = ConvPositions(
            config.positions, dim=config.hidden_size, activation=position_activation
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            TransformerLayer(
                config.hidden_size,
                num_heads=config.num_heads,
                ffn_size=config.ffn_size,
                activation=config.activation,
                pre_layer_norm=config.pre_layer_norm,
                layer_norm_eps=config.layer_norm_eps,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                activation_dropout=config.activation_dropout,
                has_gated_bias=config.relative_positions is not None,
            )
            for _ in range(config.num_layers)
        )
        if config.relative_positions is not None:
            self.relative_bias = RelativePositionBias(
                config.relative_positions, num_heads=config.num_heads
            )

    def forward(
        self, x: Tensor, layout: Layout, generator: torch.Generator | None = None
    ) -> Iterable[Tensor]:
        """The first layer's input, then each layer's output, in order, as asked for.

        Args:
            x: (B, T, D), padded, whatever the layout is.
            layout: Lengths of the utterances, and the layout of what is returned. Packed is for
                inference.
            generator: Source of the layers that training leaves out; None for torch's own, from
                which dropout comes.

        Returns:
            Padded (B, T, D) or packed (1, N, D). In pre-norm models the final LayerNorm is applied
            to the last output.
        """
        states = self._states(x, layout, generator)
        return tuple(states) if acts(self) else states

    def _states(
        self, x: Tensor, layout: Layout, generator: torch.Generator | None
    ) -> Iterator[Tensor]:
        config = self.config
        padding = padding_mask(layout.lengths, x.shape[1], x.device)
        x = self._embed(zero_padding(x, padding, time_dim=1), padding)
        x = F.dropout(x, config.dropout, self.training)
        max_frames = x.shape[1]
        if layout.is_packed:
            x = layout.pack(x)
        yield x
        bias = None if config.relative_positions is None else self.relative_bias(max_frames)
        for index, layer in enumerate(self.layers):
            if not (self.training and is_left_out(layer, config.layer_drop, generator)):
                x = layer(x, layout, bias)
            is_normed = config.pre_layer_norm and index + 1 == config.num_layers
            yield self.norm(x) if is_normed else x

    def _embed(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """The first layer's input (B, T, D), of `x` (B, T, D) that is zero on padding."""

        def embed(chunk: slice) -> Tensor:
            embedded = x[:, chunk] + self.positions(x, padding, chunk)
            normed: Tensor = embedded if self.config.pre_layer_norm else self.norm(embedded)
            return normed

        parts = [self.positions] if self.config.pre_layer_norm else [self.positions, self.norm]
        # not `nbytes`, which torch.compile does not know of batches whose size changes
        frame_bytes = x.shape[0] * x.shape[2] * x.element_size()
        return map_chunks(embed, x.shape[1], POSITION_VALUES * frame_bytes, parts)


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
        # Convolutions among the layers reach further, but attention reaches everywhere as it is.
        geometry = self.config.extractor.geometry
        names = ["input", *(f"layer_{index + 1}" for index in range(self._num_layers))]
        return tuple(LayerInfo(name=name, dim=self._width, geometry=geometry) for name in names)

    @property
    def uses_utterance_statistics(self) -> bool:
        return self.config.normalize or self.config.extractor.norm == "group"

    def encoded_by(
        self, stack: nn.Module, batch: Batch, wanted: frozenset[str]
    ) -> Iterator[tuple[str, Batch]]:
        """`encode` by a stack of layers."""
        frames = self.latents(batch)
        layout = Layout(frames.lengths, is_packed=may_pack(frames.lengths, stack))
        states = stack(self._projected(frames.values), layout)
        del batch, frames
        yield from self.named_states(states, layout, wanted)

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
        """The first layer's input (B, T, D) of the extractor's frames."""

        def project(chunk: slice) -> Tensor:
            projected: Tensor = self.projection(self.projection_norm(frames[:, chunk]))
            return projected

        frame_bytes = frames.shape[0] * self._width * frames.element_size()
        parts = (self.projection_norm, self.projection)
        x = map_chunks(project, frames.shape[1], 2 * frame_bytes, parts)
        return F.dropout(x, self.config.projection_dropout, self.training)


class WaveformTransformerEncoder(WaveformEncoder):
    """A Transformer over convolutional frames; every frame attends to the whole utterance."""

    config: WaveformTransformerConfig

    def __init__(self, config: WaveformTransformerConfig) -> None:
        super().__init__(config, config.transformer)
        self.transformer = WaveformTransformer(
            config.transformer, position_activation=config.extractor.activation
        )

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        return self.encoded_by(self.transformer, batch, wanted)


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

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        return self.encoded_by(self.conformer, batch, wanted)
