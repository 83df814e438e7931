"""Self-attention with relative positions: a table of keys, Transformer-XL's, or rotary.

Scores by distance are computed for each query and every distance, and read along diagonals: a view
of the rows shifts each by one, so that nothing is gathered and no tensor of all pairs of frames and
the width of a head exists.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from auricle.nn.attention import SelfAttention, attend, attend_packed
from auricle.nn.batch import Layout, as_ints
from auricle.nn.conv import Linear, columns_of
from auricle.nn.cpu.policy import chunks, is_traced

WAVELENGTH_BASE = 10_000.0
"""Longest wavelength of the sinusoids over 2 pi (Vaswani et al. 2017, section 3.5)."""

MAX_TABLE_FRAMES = 1 << 13
"""Longer tables are not kept."""

MAX_SCORE_ELEMENTS = 1 << 23
"""Scores by distance that stand in memory at once (32 MiB in float32)."""


Rounding = Literal["float32", "float16", "bfloat16"]


class DistanceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of relative positions.

    Attributes:
        kind: `"key_table"` adds the product of the query with a learnt vector of the clipped
            distance to each score (Shaw et al., arXiv:1803.02155, equation 4), `"sinusoidal"` that
            of the query with a projected sinusoid (Transformer-XL, arXiv:1901.02860, section 3.3);
            `"rotary"` rotates the input of queries and keys by its position (arXiv:2104.09864);
            `"none"` adds nothing (`position_embeddings_type`; fairseq: `pos_enc_type`).
        left: Distance to earlier keys from which on all share a vector
            (`left_max_position_embeddings`).
        right: The same to later keys (`right_max_position_embeddings`).
        tells_sides: Whether sinusoids tell a key before the query from one after it, as far away
            (SpeechBrain's do not).
        scale_width: Whether scores are divided by the root of the width of a `"head"` or of the
            `"model"` (SpeechBrain).
        rotary_base: Longest wavelength of a rotation over 2 pi (`rotary_embedding_base`).
        rotary_rounding: The type that the file's frequencies of rotations are rounded to: models
            that store them (`inv_freq`) use them as they come back from half precision.
    """

    kind: Literal["key_table", "sinusoidal", "rotary", "none"] = "key_table"
    left: int = 64
    right: int = 8
    tells_sides: bool = True
    scale_width: Literal["head", "model"] = "head"
    rotary_base: int = 10_000
    rotary_rounding: Rounding = "float32"

    def __post_init__(self) -> None:
        if min(self.left, self.right) < 0:
            raise ValueError(
                f"left and right must be 0 or more, but are {self.left} and {self.right}"
            )
        if self.kind != "sinusoidal" and not (self.tells_sides and self.scale_width == "head"):
            raise ValueError(
                "tells_sides and scale_width must be true and 'head' unless kind is 'sinusoidal', "
                f"but are {self.tells_sides} and {self.scale_width!r}"
            )
        if self.rotary_base < 1:
            raise ValueError(f"rotary_base must be at least 1, but is {self.rotary_base}")

    def table(self, num_frames: int, *, width: int, head_size: int, like: Tensor) -> Tensor | None:
        """Tensor that all layers share, for at most `num_frames` frames; None where there is none.

        Returns:
            Sinusoids, 2 T by D, of the distances query - key from T - 1 down to -T, or cosines and
            sines of rotations, 2 by T by D / H, on the device and in the type of `like`.
        """
        if self.kind not in ("sinusoidal", "rotary"):
            return None
        is_kept = not is_traced() and num_frames <= MAX_TABLE_FRAMES
        # Tables of a few sizes serve every length.
        size = 1 << max(num_frames - 1, 1).bit_length() if is_kept else num_frames
        if self.kind == "sinusoidal":
            sinusoids = _sinusoids if is_kept else _sinusoids.__wrapped__
            table = sinusoids(size, width, self.tells_sides)
            return table[size - num_frames : size + num_frames].to(like)
        make = _rotations if is_kept else _rotations.__wrapped__
        table = make(size, head_size, self.rotary_base, self.rotary_rounding)
        return table[:, :num_frames].to(like)


@lru_cache(maxsize=4)
def _sinusoids(num_frames: int, dim: int, tells_sides: bool) -> Tensor:
    """Sine in even columns and cosine in odd ones, in float32 as the authors' code has them."""
    with torch.inference_mode(False):
        columns = torch.arange(0, dim, 2, dtype=torch.int64, device="cpu").float()
        frequencies = torch.exp(columns * -(math.log(WAVELENGTH_BASE) / dim))
        distances = torch.arange(num_frames - 1, -num_frames - 1, -1, device="cpu").float()
        if not tells_sides:
            distances = distances.abs()
        angles = distances.unsqueeze(1) * frequencies
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


@lru_cache(maxsize=4)
def _rotations(num_frames: int, dim: int, base: int, rounding: Rounding) -> Tensor:
    """Cosine and sine of the angle of each frame and column, in float32 as `_sinusoids`."""
    with torch.inference_mode(False):
        frames = torch.arange(num_frames, device="cpu").float()
        frequencies = rotary_frequencies(dim, base, rounding)
        angles = (frames.unsqueeze(1) * frequencies).repeat(1, 2)
        return torch.stack([angles.cos(), angles.sin()])


def rotary_frequencies(dim: int, base: int, rounding: Rounding) -> Tensor:
    """Angles in radians that pairs of columns turn by from frame to frame (D / 2,), float32."""
    columns = torch.arange(0, dim, 2, dtype=torch.int64, device="cpu").float()
    frequencies: Tensor = 1.0 / (base ** (columns / dim))
    return frequencies.to(getattr(torch, rounding)).float()


def along_diagonals(rows: Tensor) -> Tensor:
    """A view (..., Q, K) of `rows` (..., Q, K + Q): query i and key j at column Q - 1 + j - i.

    The "relative shift" of Transformer-XL (arXiv:1901.02860, appendix B).
    """
    num_queries, width = rows.shape[-2:]
    # Rows that are read one element shorter than they are begin one element earlier each.
    elements = rows.contiguous().flatten(-2)[..., num_queries - 1 : -1]
    return elements.view(*rows.shape[:-1], width - 1)[..., : width - num_queries]


class RelativeAttention(SelfAttention):
    """Multi-head self-attention in which positions are distances."""

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        dropout: float,
        positions: DistanceConfig,
        has_bias: bool = True,
        has_out_bias: bool = True,
    ) -> None:
        super().__init__(
            width,
            num_heads=num_heads,
            dropout=dropout,
            has_bias=has_bias,
            has_out_bias=has_out_bias,
        )
        self.positions = positions
        self.head_size = width // num_heads
        self.share = num_heads**-0.5 if positions.scale_width == "model" else 1.0
        """Of the scores that are scaled by the width of a head."""
        if positions.kind == "key_table":
            self.table = nn.Embedding(positions.left + positions.right + 1, self.head_size)
        elif positions.kind == "sinusoidal":
            self.position = Linear(width, width, bias=False)
            self.content_bias = nn.Parameter(torch.zeros(num_heads, self.head_size))
            self.position_bias = nn.Parameter(torch.zeros(num_heads, self.head_size))

    def forward(  # type: ignore[override]  # distances take the place of a bias
        self, x: Tensor, layout: Layout, table: Tensor | None = None
    ) -> Tensor:
        """Output for the input `x`, both (B, T, D) in `layout`; each utterance attends to itself.

        `table` is that of `DistanceConfig.table` for the longest utterance.
        """
        inputs = self._rotated(x, layout, table) if self.positions.kind == "rotary" else x
        output: Tensor = self.out(self._contexts(inputs, x, layout, table))
        return output

    def _contexts(self, inputs: Tensor, x: Tensor, layout: Layout, table: Tensor | None) -> Tensor:
        """Contexts (B, T, D), of queries and keys of `inputs` and values of `x`, both (B, T, D)."""
        groups = self._head_groups(x, layout)
        if len(groups) > 1:
            return self._by_heads(groups, inputs, x, layout, table)
        query, key, value = (
            self._heads(projection(part))
            for projection, part in ((self.query, inputs), (self.key, inputs), (self.value, x))
        )
        context = self._attended(query, key, value, x, layout, self._distances(table))
        return context.transpose(1, 2).flatten(-2)

    def _head_groups(self, x: Tensor, layout: Layout) -> list[slice]:
        """Heads whose queries, keys and values are computed at once; of long batches, few."""
        everything = [slice(0, self.num_heads)]
        if not layout.is_packed:
            return everything
        head_bytes = 3 * x.shape[1] * self.head_size * x.element_size()
        return chunks(self.num_heads, head_bytes, (self,))

    def _by_heads(
        self, groups: list[slice], inputs: Tensor, x: Tensor, layout: Layout, table: Tensor | None
    ) -> Tensor:
        output = torch.empty_like(x)
        for heads in groups:
            columns = slice(heads.start * self.head_size, heads.stop * self.head_size)
            query, key, value = (
                columns_of(linear, part, columns)
                .view(*x.shape[:2], -1, self.head_size)
                .transpose(1, 2)
                for linear, part in ((self.query, inputs), (self.key, inputs), (self.value, x))
            )
            by_distance = self._distances(table, columns)
            context = self._attended(query, key, value, x, layout, by_distance, heads)
            output[..., columns] = context.transpose(1, 2).flatten(-2)
        return output

    def _distances(self, table: Tensor | None, columns: slice | None = None) -> Tensor | None:
        """Vectors of distances, (..., R, D / H): of a table for all heads, else of each head."""
        if self.positions.kind == "key_table":
            indices = torch.arange(self.table.num_embeddings, device=self.query.weight.device)
            vectors: Tensor = self.table(indices)
            return vectors
        if self.positions.kind != "sinusoidal":
            return None
        assert table is not None
        if columns is None:
            projected: Tensor = self.position(table)
        else:
            projected = columns_of(self.position, table, columns)
        return projected.view(table.shape[0], -1, self.head_size).transpose(0, 1)

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        x: Tensor,
        layout: Layout,
        distances: Tensor | None,
        heads: slice = slice(None),
    ) -> Tensor:
        """Contexts (B, H, T, D / H) of queries, keys and values of that shape, in `layout`."""
        if layout.is_packed:
            if distances is None:
                return attend_packed(query, key, value, layout)
            contexts = [
                self._by_distance(
                    query[:, :, one], key[:, :, one], value[:, :, one], None, distances, heads
                )
                for one in layout.slices
            ]
            return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)
        padding = layout.padding(x)
        seen = None if padding is None else ~padding[:, None, None, :]
        if distances is None:
            return attend(query, key, value, seen, self.dropout if self.training else 0.0)
        return self._by_distance(query, key, value, seen, distances, heads)

    def _by_distance(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        seen: Tensor | None,
        distances: Tensor,
        heads: slice,
    ) -> Tensor:
        """As `attend`, with scores by distance, for some queries at a time."""
        dropout = self.dropout if self.training else 0.0
        num_rows, num_heads, num_frames, _ = query.shape
        if is_traced():  # whose counts of frames are not numbers
            starts, block = [0], num_frames
        else:
            block = max(MAX_SCORE_ELEMENTS // (2 * num_rows * num_heads * num_frames), 1)
            starts = list(range(0, num_frames, block))
        contexts = []
        for start in starts:
            part = query[:, :, start : start + block]
            if self.positions.kind == "key_table":
                rows = self._scores_by_table(part, distances, start, num_frames)
            else:
                rows = self._scores_by_sinusoid(part, distances, start, num_frames, heads)
                part = (part + self.content_bias[heads].unsqueeze(1)) * self.share
            bias = along_diagonals(rows)
            if seen is not None:
                bias = bias.masked_fill(~seen, -torch.inf)
            contexts.append(attend(part, key, value, bias, dropout))
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)

    def _scores_by_table(
        self, query: Tensor, distances: Tensor, start: int, num_frames: int
    ) -> Tensor:
        """Rows (B, H, Q, T + Q) for `along_diagonals`, of queries from frame `start` on."""
        num_queries = query.shape[2]
        near: Tensor = (query * self.head_size**-0.5) @ distances.t()
        # Distances key - query of the columns.
        first = 1 - num_queries - start
        last = first + num_frames + num_queries
        left, right = self.positions.left, self.positions.right
        if is_traced():
            columns = torch.arange(first, last, device=query.device).clamp(-left, right) + left
            traced: Tensor = near.index_select(3, columns)
            return traced
        before = min(max(-left - first, 0), last - first)
        after = min(max(last - 1 - right, 0), last - first)
        low, high = first + before + left, last - after + left
        shape = near.shape[:3]
        return torch.cat(
            [
                near[..., :1].expand(*shape, before),
                near[..., low:high],
                near[..., -1:].expand(*shape, after),
            ],
            dim=3,
        )

    def _scores_by_sinusoid(
        self, query: Tensor, distances: Tensor, start: int, num_frames: int, heads: slice
    ) -> Tensor:
        """As `_scores_by_table`."""
        num_queries = query.shape[2]
        first = distances.shape[1] // 2 - start - num_queries
        vectors = distances[:, first : first + num_frames + num_queries]
        scale = self.share * self.head_size**-0.5
        asking = (query + self.position_bias[heads].unsqueeze(1)) * scale
        rows: Tensor = asking @ vectors.transpose(1, 2)
        return rows

    def _rotated(self, x: Tensor, layout: Layout, table: Tensor | None) -> Tensor:
        """`x` (B, T, D), each half of a head's columns turned against the other."""
        assert table is not None
        if layout.is_packed:
            counts = as_ints(layout.lengths)
            angles = torch.cat([table[:, :count] for count in counts], dim=1)
        else:
            angles = table
        cosine, sine = angles.unsqueeze(2)
        by_head = x.view(*x.shape[:2], self.num_heads, self.head_size)
        first, second = by_head.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        rotated: Tensor = by_head * cosine + turned * sine
        return rotated.flatten(-2)
