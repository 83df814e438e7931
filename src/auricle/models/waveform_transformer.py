"""Transformers over convolutional frames: wav2vec 2.0, HuBERT, WavLM and data2vec."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import FinalNorm, LayerInfo
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.activations import WaveformActivation
from auricle.nn.attention import Alibi, AlibiConfig, RelativePositionBias, RelativePositionConfig
from auricle.nn.batch import Batch, Layout, frames_of, padding_mask, zero_padding
from auricle.nn.chunking import map_chunks
from auricle.nn.conv_positions import ConvPositionConfig, ConvPositions
from auricle.nn.cpu.policy import acts, may_pack
from auricle.nn.linear import Linear
from auricle.nn.norms import centred, normalized
from auricle.nn.transformer import TransformerLayer, is_left_out
from auricle.nn.waveform_extractor import ExtractorConfig, WaveformExtractor

MAX_LAYERS = 1000
"""Deeper ones are taken for damaged configurations."""

PRE_RESIDUAL = "pre_residual"
"""Tap of a layer: its feed-forward part's output, before the residual is added to it (fairseq:
`layer_result` of `TransformerSentenceEncoderLayer`)."""

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
        relative_positions: The gated bias of attention scores (WavLM), or None.
        alibi: The linear bias of attention scores (data2vec 2.0), or None.
        qkv_bias: Whether queries, keys and values have a bias (SpidR: `encoder_qkv_bias`).
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
    alibi: AlibiConfig | None = None
    qkv_bias: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    layer_drop: float = 0.05

    def __post_init__(self) -> None:
        if not 1 <= self.num_layers <= MAX_LAYERS:
            raise ValueError(f"num_layers must be 1 to {MAX_LAYERS}, but is {self.num_layers}")
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
        if None not in (self.alibi, self.relative_positions):
            raise ValueError("attention scores have one bias: relative_positions or alibi")
        biased_heads = 0 if self.alibi is None else self.alibi.num_heads or 0
        if biased_heads > self.num_heads:
            raise ValueError(
                f"alibi.num_heads must be at most num_heads ({self.num_heads}), but is "
                f"{biased_heads}"
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
                qkv_bias=config.qkv_bias,
                has_gated_bias=config.relative_positions is not None,
            )
            for _ in range(config.num_layers)
        )
        if config.relative_positions is not None:
            self.relative_bias = RelativePositionBias(
                config.relative_positions, num_heads=config.num_heads
            )
        if config.alibi is not None:
            sizes = {"num_layers": config.num_layers, "num_heads": config.num_heads}
            self.alibi = Alibi(config.alibi, **sizes)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        generator: torch.Generator | None = None,
        *,
        tapped: Collection[int] = (),
        final_norm: FinalNorm = "keep",
    ) -> Iterable[Tensor]:
        """The first layer's input, then each layer's output, in order, as asked for.

        Args:
            x: (B, T, D), padded, whatever the layout is.
            layout: Lengths of the utterances, and the layout of what is returned. Packed is for
                inference.
            generator: Source of the layers that training leaves out; None for torch's own, from
                which dropout comes.
            tapped: Layers, counted from 0, whose feed-forward part's output comes before their own.
            final_norm: In pre-norm models, outputs that the final LayerNorm is applied to.

        Returns:
            Padded (B, T, D) or packed (1, N, D).
        """
        states = self._states(x, layout, generator, tapped, final_norm)
        return tuple(states) if acts(self) else states

    def _states(
        self,
        x: Tensor,
        layout: Layout,
        generator: torch.Generator | None,
        tapped: Collection[int],
        final_norm: FinalNorm,
    ) -> Iterator[Tensor]:
        config = self.config
        is_normed = [final_norm == "each"] * config.num_layers + [final_norm != "strip"]
        is_normed = [one and config.pre_layer_norm for one in is_normed]
        padding = padding_mask(layout.lengths, x.shape[1], x.device)
        x = self._embed(zero_padding(x, padding, time_dim=1), padding)
        x = F.dropout(x, config.dropout, self.training)
        max_frames = x.shape[1]
        if layout.is_packed:
            x = layout.pack(x)
        yield self.norm(x) if is_normed[0] else x
        bias = None if config.relative_positions is None else self.relative_bias(max_frames)
        for index, layer in enumerate(self.layers):
            if config.alibi is not None:
                bias = self.alibi(max_frames, index)
            skips = self.training and is_left_out(layer, config.layer_drop, generator)
            if index in tapped and not skips:
                x, ffn = layer(x, layout, bias, gives_ffn=True)
                yield ffn
                del ffn
            elif index in tapped:
                yield torch.zeros_like(x)
            elif not skips:
                x = layer(x, layout, bias)
            yield self.norm(x) if is_normed[index + 1] else x

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

    @property
    def uses_utterance_statistics(self) -> bool:
        return self.config.normalize or self.config.extractor.norm == "group"

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        return self.encode_normed(batch, wanted, "keep")

    def encode_normed(
        self, batch: Batch, wanted: frozenset[str], final_norm: FinalNorm
    ) -> Iterator[tuple[str, Batch]]:
        frames = self.latents(batch)
        layout = Layout(frames.lengths, is_packed=may_pack(frames.lengths, self.transformer))
        ffn_of = [index for index, name in enumerate(self._ffn_names) if name in wanted]
        options: dict[str, Any] = {"tapped": ffn_of} if ffn_of else {}
        if final_norm != "keep":
            options["final_norm"] = final_norm
        states = iter(self.transformer(self._projected(frames.values), layout, **options))
        del batch, frames
        names = ["input"]
        for index, ffn in enumerate(self._ffn_names):
            names += [ffn] if index in ffn_of else []
            names.append(f"layer_{index + 1}")
        for name in names:
            # Do not bind the output: no reference may keep it alive while the next layer runs.
            if name in wanted:
                yield name, Batch(next(states), layout)
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
        """The Transformer's input (B, T, D) of the extractor's frames."""

        def project(chunk: slice) -> Tensor:
            projected: Tensor = self.projection(self.projection_norm(frames[:, chunk]))
            return projected

        frame_bytes = frames.shape[0] * self.config.transformer.hidden_size * frames.element_size()
        parts = (self.projection_norm, self.projection)
        x = map_chunks(project, frames.shape[1], 2 * frame_bytes, parts)
        return F.dropout(x, self.config.projection_dropout, self.training)


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
