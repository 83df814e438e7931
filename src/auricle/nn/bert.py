"""The Transformer body of Mockingjay, TERA and Audio ALBERT (BERT, arXiv:1810.04805)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.attention import attend, attend_packed
from auricle.nn.batch import Layout, as_ints, pad_rows
from auricle.nn.cpu.policy import acts
from auricle.nn.depth import check_depth
from auricle.nn.linear import Linear, activated
from auricle.nn.long_layers import is_long, run_layer
from auricle.nn.stretches import by_stretches

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
    if stop > MAX_TABLE_FRAMES:
        return _sinusoids(start, stop, dim)
    # Tables of a few sizes serve every length.
    size = 1 << max(stop - 1, 1).bit_length()
    return _position_table(size, dim)[start:stop]


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        self.out = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Output for `x`, both (B, T, D) in `layout`; each utterance attends to itself."""
        query, key, value = (
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        if layout.is_packed:
            context = attend_packed(query, key, value, layout)
        else:
            padding = layout.padding(x)
            seen = None if padding is None else ~padding[:, None, None, :]
            context = self.attend(query, key, value, seen)
        output: Tensor = self.out(context.transpose(1, 2).flatten(-2))
        return output

    def attend(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
        """Contexts (B, H, T, D / H); `seen` (B, 1, 1, T) is False on padding."""
        dropout = self.dropout if self.training else 0.0
        return attend(query, key, value, seen, dropout)


class BertLayer(nn.Module):
    """Self-attention and feed-forward, each with a residual and a norm after or before it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.pre_layer_norm = config.pre_layer_norm
        self.activation = config.activation
        self.dropout = config.hidden_dropout
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn_in = Linear(config.hidden_size, config.ffn_size)
        self.ffn_out = Linear(config.ffn_size, config.hidden_size)
        self.ffn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Output (B, T, D) for the input `x` (B, T, D), both in `layout`."""
        if self.pre_layer_norm:
            x = x + self._drop(self.attention(self.attention_norm(x), layout))
            x = x + self._drop(self._feed_forward(self.ffn_norm(x)))
        else:
            x = self.attention_norm(x + self._drop(self.attention(x, layout)))
            x = self.ffn_norm(x + self._drop(self._feed_forward(x)))
        return x

    def linears(self) -> list[nn.Module]:
        """The linear layers that reduced precision (int8) may serve."""
        attention = self.attention
        projections = [attention.query, attention.key, attention.value, attention.out]
        return [*projections, self.ffn_in, self.ffn_out]

    def _feed_forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.ffn_out(activated(self.ffn_in, x, self.activation))
        return output

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class BertEncoder(nn.Module):
    """Spectral frames to hidden states: linear, positions, norm, layers."""

    def __init__(self, config: BertConfig, *, input_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.project = Linear(input_dim, width)
        self.input_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            BertLayer(config) for _ in range(1 if config.share_layer else config.num_layers)
        )
        self.output_norms = nn.ModuleList(
            nn.LayerNorm(width, eps=config.layer_norm_eps)
            for _ in range(config.num_layers + 1 if config.pre_layer_norm else 0)
        )

    def forward(self, features: Tensor, layout: Layout) -> Iterable[Tensor]:
        """The embedding, then each layer's output, in order, as asked for.

        Args:
            features: (B, T, input_dim), padded, whatever the layout is.
            layout: Lengths of the utterances, and the layout of what is returned. Packed is for
                inference.

        Returns:
            Padded (B, T, D) or packed (1, N, D).
        """
        states = self._states(features, layout)
        return tuple(states) if acts(self) else states

    def _states(self, features: Tensor, layout: Layout) -> Iterator[Tensor]:
        limit = self.config.max_chunk_frames
        if limit and max(as_ints(layout.lengths)) > limit:
            yield from self._forward_chunks(features, layout)
            return
        x = F.dropout(self._embed(features), self.config.hidden_dropout, self.training)
        del features
        if layout.is_packed:
            x = layout.pack(x)
        yield self._emit(x, 0)
        for index, layer in enumerate(self._layers()):
            if layout.is_packed and is_long(layer, x):
                x = run_layer(layer, x, layout)
            else:
                x = layer(x, layout)
            yield self._emit(x, index + 1)

    def _layers(self) -> Iterator[nn.Module]:
        for index in range(self.config.num_layers):
            yield self.layers[0 if self.config.share_layer else index]

    def _embed(self, features: Tensor) -> Tensor:
        """What the first layer reads (B, T, D)."""
        num_rows, num_frames, _ = features.shape
        width = self.config.hidden_size

        def embed(stretch: slice) -> Tensor:
            count = stretch.stop - stretch.start
            positions = sinusoidal_positions(count, width, start=stretch.start).to(features)
            embedded: Tensor = self.input_norm(self.project(features[:, stretch]) + positions)
            return embedded

        frame_bytes = EMBEDDING_VALUES * num_rows * width * features.element_size()
        return by_stretches(embed, num_frames, frame_bytes, (self.project, self.input_norm))

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
            chunks = of_chunks.rows(state)
            joined = [
                torch.cat(chunks[end - count : end])
                for count, end in zip(counts, accumulate(counts), strict=True)
            ]
            yield pad_rows(joined)
