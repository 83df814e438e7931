"""Transformers over spectral frames (Mockingjay, Audio ALBERT, TERA), and baselines without any."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from auricle.frontends import FbankConfig, LogMelConfig
from auricle.info import LayerInfo
from auricle.models.base import FeatureEncoder
from auricle.models.definition import FeatureConfig
from auricle.nn.batch import Batch, Layout, as_ints, pad_rows
from auricle.nn.conv import Linear
from auricle.nn.cpu.policy import acts, is_traced, map_chunks, may_pack
from auricle.nn.layers import check_depth, dropout
from auricle.nn.transformer import TransformerLayer

POSITION_BASE = 10_000.0
"""Longest wavelength of the sinusoids over 2 pi (Vaswani et al. 2017, section 3.5)."""

MAX_TABLE_FRAMES = 1 << 14
"""Longer tables of positions are not kept."""

EMBEDDING_VALUES = 8
"""Values per feature that stand in memory while positions are computed."""


class BertConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the Transformer over spectral frames (section `transformer` of a file).

    Attributes:
        hidden_size: Width (768).
        num_layers: Layers (`num_hidden_layers`; 3, 6 or 12).
        num_heads: Attention heads (`num_attention_heads`; 12).
        ffn_size: Width of the feed-forward part (`intermediate_size`; 3072).
        activation: Of the feed-forward part (`hidden_act`).
        hidden_dropout: Dropout in training (`hidden_dropout_prob`).
        attention_dropout: Dropout of attention weights (`attention_probs_dropout_prob`).
        init_std: Standard deviation of initial weights (`initializer_range`).
        layer_norm_eps: `layer_norm_eps` (1e-12).
        share_layer: Whether one layer's weights serve all layers (Audio ALBERT).
        pre_layer_norm: Whether norms come before attention and feed-forward, and every emitted
            state has a norm of its own.
        max_chunk_frames: Longer sequences are cut into equal chunks of at most this many frames,
            each encoded alone (`task.sequence_length`); 0 for never.
    """

    hidden_size: int = 768
    num_layers: int = 3
    num_heads: int = 12
    ffn_size: int = 3072
    activation: Literal["gelu", "relu", "swish"] = "gelu"
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    init_std: float = 0.02
    layer_norm_eps: float = 1e-12
    share_layer: bool = False
    pre_layer_norm: bool = False
    max_chunk_frames: int = 0

    def __post_init__(self) -> None:
        if min(self.hidden_size, self.num_layers, self.num_heads, self.ffn_size) < 1:
            raise ValueError(
                "hidden_size, num_layers, num_heads and ffn_size must be at least 1, but are "
                f"{self.hidden_size}, {self.num_layers}, {self.num_heads} and {self.ffn_size}"
            )
        check_depth(self.num_layers)
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads ({self.num_heads}), but is "
                f"{self.hidden_size}"
            )
        if self.max_chunk_frames < 0:
            raise ValueError(f"max_chunk_frames must be 0 or more, but is {self.max_chunk_frames}")


def _sinusoids(start: int, stop: int, dim: int) -> Tensor:
    """Sinusoids of frames `start` to `stop`, sine in even columns and cosine in odd ones."""
    with torch.inference_mode(False):
        columns = torch.arange(dim)
        exponents = 2 * (columns // 2).double() / dim
        frames = torch.arange(start, stop, dtype=torch.float64).unsqueeze(1)
        angles = frames / POSITION_BASE**exponents
        return torch.where(columns % 2 == 0, angles.sin(), angles.cos()).float()


@lru_cache(maxsize=4)
def _position_table(num_frames: int, dim: int) -> Tensor:
    return _sinusoids(0, num_frames, dim)


def sinusoidal_positions(num_frames: int, dim: int, *, start: int = 0) -> Tensor:
    """Position encodings (T, D), float32, computed in float64 (Vaswani et al. 2017, 3.5).

    Args:
        num_frames: How many.
        dim: Their width.
        start: The first one's position.
    """
    stop = start + num_frames
    if stop > MAX_TABLE_FRAMES or is_traced():
        return _sinusoids(start, stop, dim)
    # Tables of a few sizes serve every length.
    size = 1 << max(stop - 1, 1).bit_length()
    return _position_table(size, dim)[start:stop]


class BertEncoder(nn.Module):
    """Spectral frames to hidden states: linear, positions, norm, layers."""

    trains_packed = True

    def __init__(self, config: BertConfig, *, input_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.project = Linear(input_dim, width)
        self.input_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            TransformerLayer(
                width,
                num_heads=config.num_heads,
                ffn_size=config.ffn_size,
                activation=config.activation,
                pre_layer_norm=config.pre_layer_norm,
                layer_norm_eps=config.layer_norm_eps,
                dropout=config.hidden_dropout,
                attention_dropout=config.attention_dropout,
            )
            for _ in range(1 if config.share_layer else config.num_layers)
        )
        self.output_norms = nn.ModuleList(
            nn.LayerNorm(width, eps=config.layer_norm_eps)
            for _ in range(config.num_layers + 1 if config.pre_layer_norm else 0)
        )

    def forward(self, features: Tensor, layout: Layout) -> Iterable[Tensor]:
        """The embedding, then each layer's output, in order, as asked for.

        Args:
            features: (B, T, input_dim), padded, whatever the layout is.
            layout: Lengths of the utterances, and the layout of what is returned.

        Returns:
            Padded (B, T, D) or packed (1, N, D).
        """
        states = self._states(features, layout)
        return tuple(states) if acts(self) else states

    def _states(self, features: Tensor, layout: Layout) -> Iterator[Tensor]:
        limit = self.config.max_chunk_frames
        if limit and features.shape[1] > limit and max(as_ints(layout.lengths)) > limit:
            yield from self._forward_chunks(features, layout)
            return
        x = dropout(self._embed(features), self.config.hidden_dropout, self.training)
        del features
        if layout.is_packed:
            x = layout.pack(x)
        yield self._emit(x, 0)
        for index, layer in enumerate(self._layers()):
            x = layer(x, layout)
            yield self._emit(x, index + 1)

    def _layers(self) -> Iterator[nn.Module]:
        for index in range(self.config.num_layers):
            yield self.layers[0 if self.config.share_layer else index]

    def _embed(self, features: Tensor) -> Tensor:
        """The first layer's input (B, T, D)."""
        num_rows, num_frames, _ = features.shape
        width = self.config.hidden_size

        def embed(chunk: slice) -> Tensor:
            count = chunk.stop - chunk.start
            positions = sinusoidal_positions(count, width, start=chunk.start).to(features)
            embedded: Tensor = self.input_norm(self.project(features[:, chunk]) + positions)
            return embedded

        frame_bytes = EMBEDDING_VALUES * num_rows * width * features.element_size()
        return map_chunks(embed, num_frames, frame_bytes, (self.project, self.input_norm))

    def _emit(self, x: Tensor, index: int) -> Tensor:
        """State `index` as others see it: through its own norm in pre-norm models."""
        emitted: Tensor = self.output_norms[index](x) if self.output_norms else x
        return emitted

    def _forward_chunks(self, features: Tensor, layout: Layout) -> Iterator[Tensor]:
        """As `forward`, each utterance cut as `torch.chunk` cuts it, each chunk alone."""
        pieces: list[Tensor] = []
        counts: list[int] = []
        for row in Layout(layout.lengths).rows(features):
            chunks = row.chunk(math.ceil(len(row) / self.config.max_chunk_frames))
            pieces.extend(chunks)
            counts.append(len(chunks))
        of_chunks = Layout([len(piece) for piece in pieces], is_packed=layout.is_packed)
        for state in self._states(pad_rows(pieces), of_chunks):
            if layout.is_packed:  # where an utterance's chunks follow each other as they should
                yield state
                continue
            rows = of_chunks.rows(state)
            joined = [
                torch.cat(rows[end - count : end])
                for count, end in zip(counts, accumulate(counts), strict=True)
            ]
            yield pad_rows(joined)


class SpectralBertConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration of a Transformer over spectral frames.

    Attributes:
        features: The front end (section `audio` of a published file).
        transformer: The layers (sections `transformer` and `task`).
    """

    features: FbankConfig | LogMelConfig = LogMelConfig()
    transformer: BertConfig = BertConfig()


class SpectralBert(FeatureEncoder):
    """A Transformer over spectral frames; every frame attends to the whole utterance."""

    looks_ahead = True
    config: SpectralBertConfig

    def __init__(self, config: SpectralBertConfig) -> None:
        super().__init__(config)
        self.bert = BertEncoder(config.transformer, input_dim=config.features.dim)

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        transformer = self.config.transformer
        names = ["input", *(f"layer_{index + 1}" for index in range(transformer.num_layers))]
        return tuple(
            LayerInfo(
                name=name, dim=transformer.hidden_size, geometry=self.config.features.geometry
            )
            for name in names
        )

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        features = self.features(batch)
        is_packed = may_pack(features.values, features.lengths, self.bert)
        layout = Layout(features.lengths, is_packed=is_packed)
        states = self.bert(features.values, layout)
        del batch, features
        yield from self.named_states(states, layout, wanted)


class MockingjayConfig(SpectralBertConfig, frozen=True, kw_only=True):
    """Configuration of a Mockingjay encoder."""


class Mockingjay(SpectralBert):
    """Mockingjay: a Transformer that was trained to reconstruct masked frames."""

    family = "mockingjay"
    config_type = MockingjayConfig
    config: MockingjayConfig


class TeraConfig(SpectralBertConfig, frozen=True, kw_only=True):
    """Configuration of a TERA encoder."""


class Tera(SpectralBert):
    """TERA: a Transformer trained on frames altered in time, frequency and magnitude."""

    family = "tera"
    config_type = TeraConfig
    config: TeraConfig


class AudioAlbertConfig(SpectralBertConfig, frozen=True, kw_only=True):
    """Configuration of an Audio ALBERT encoder; `transformer.share_layer` must be true."""

    transformer: BertConfig = BertConfig(share_layer=True)

    def __post_init__(self) -> None:
        if not self.transformer.share_layer:
            raise ValueError("an Audio ALBERT must have transformer.share_layer, but has it false")


class AudioAlbert(SpectralBert):
    """Audio ALBERT: one layer applied again and again, trained to reconstruct masked frames."""

    family = "audio_albert"
    config_type = AudioAlbertConfig
    config: AudioAlbertConfig


class BaselineConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration of a baseline: the front end alone."""

    features: FbankConfig | LogMelConfig = FbankConfig()


class Baseline(FeatureEncoder):
    """Spectral features under the contract of an encoder."""

    family = "baseline"
    config_type = BaselineConfig
    config: BaselineConfig

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        # Without weights this alone says where `to` has put the encoder.
        self.register_buffer("_place", torch.empty(0, device="cpu"), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.get_buffer("_place").device

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        features = self.config.features
        return (LayerInfo(name="features", dim=features.dim, geometry=features.geometry),)

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        yield "features", self.features(batch)
