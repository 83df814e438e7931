"""A Transformer layer, with norms before or after its two parts, over sequences of any length.

Over a long packed sequence, what the layer computes of each frame by itself (projections,
feed-forward, norms) is computed a chunk of frames at a time, and attention an utterance and some
heads at a time, with little in memory beside input and output. The kernels of
`scaled_dot_product_attention` hold no scores of all pairs of frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.activations import WaveformActivation
from auricle.nn.attention import SelfAttention, columns_of
from auricle.nn.batch import Layout
from auricle.nn.chunking import chunks
from auricle.nn.linear import Linear, activated

LONG_CHUNKS = 4
"""A batch is long where the feed-forward part's hidden values would fill more than so many chunks;
below, a layer is quicker whole."""


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each with a residual and a norm after or before it."""

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        ffn_size: int,
        activation: WaveformActivation,
        pre_layer_norm: bool,
        layer_norm_eps: float,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float = 0.0,
        has_gated_bias: bool = False,
    ) -> None:
        super().__init__()
        self.pre_layer_norm = pre_layer_norm
        self.activation = activation
        self.dropout = dropout
        self.activation_dropout = activation_dropout
        self.attention = SelfAttention(
            width, num_heads=num_heads, dropout=attention_dropout, has_gated_bias=has_gated_bias
        )
        self.attention_norm = nn.LayerNorm(width, eps=layer_norm_eps)
        self.ffn_in = Linear(width, ffn_size)
        self.ffn_out = Linear(ffn_size, width)
        self.ffn_norm = nn.LayerNorm(width, eps=layer_norm_eps)

    def forward(self, x: Tensor, layout: Layout, bias: Tensor | None = None) -> Tensor:
        """Output for the input `x`, both (B, T, D) in `layout`.

        `bias` (H, T, T), queries before keys and the last query first, is that of a gated bias of
        attention scores.
        """
        if layout.is_packed and self.is_long(x):
            return self._in_chunks(x, layout, bias)
        if self.pre_layer_norm:
            x = x + self._drop(self.attention(self.attention_norm(x), layout, bias))
            return x + self._drop(self._feed_forward(self.ffn_norm(x)))
        x = self.attention_norm(x + self._drop(self.attention(x, layout, bias)))
        normed: Tensor = self.ffn_norm(x + self._drop(self._feed_forward(x)))
        return normed

    def linears(self) -> list[nn.Module]:
        """The linear layers that reduced precision (int8) may serve."""
        attention = self.attention
        projections = [attention.query, attention.key, attention.value, attention.out]
        return [*projections, self.ffn_in, self.ffn_out]

    def is_long(self, x: Tensor) -> bool:
        """True if a packed `x` (1, N, D) is computed in chunks."""
        if not isinstance(self.ffn_in, Linear):  # whose width is not known
            return False
        frame_bytes = self.ffn_in.out_features * x.element_size()
        return len(chunks(x.shape[1], frame_bytes, (self,))) > LONG_CHUNKS

    def _feed_forward(self, x: Tensor) -> Tensor:
        x = activated(self.ffn_in, x, self.activation)
        x = F.dropout(x, self.activation_dropout, self.training)
        output: Tensor = self.ffn_out(x)
        return output

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def _in_chunks(self, x: Tensor, layout: Layout, bias: Tensor | None) -> Tensor:
        """Output (1, N, D) for the contiguous packed `x` (1, N, D), which stays as it is."""
        # Contexts first, then over each chunk of them the output of the layer.
        output = torch.empty_like(x)
        num_heads = self.attention.num_heads
        width = x.shape[2] // num_heads
        for utterance in layout.slices:
            length = utterance.stop - utterance.start
            for heads in chunks(num_heads, 3 * length * width * x.element_size(), ()):
                near = None if bias is None else bias[heads, bias.shape[1] - length :, :length]
                columns = slice(heads.start * width, heads.stop * width)
                output[:, utterance, columns] = self._context(x[:, utterance], heads, columns, near)
        self._finish(x[0], output[0])
        return output

    def _context(self, x: Tensor, heads: slice, columns: slice, bias: Tensor | None) -> Tensor:
        """Contexts of some heads for an utterance `x` (1, T, D), as (1, T, columns)."""
        attention = self.attention
        _, length, width = x.shape
        num_columns = columns.stop - columns.start
        projected = [x.new_empty(1, length, num_columns) for _ in range(3)]
        gates = []
        for chunk in chunks(length, width * x.element_size(), ()):
            inputs = self.attention_norm(x[:, chunk]) if self.pre_layer_norm else x[:, chunk]
            for target, linear in zip(
                projected, (attention.query, attention.key, attention.value), strict=True
            ):
                target[:, chunk] = columns_of(linear, inputs, columns)
            if bias is not None:
                gates.append(attention.gates(inputs[..., columns], heads))
        query, key, value = (
            part.view(1, length, heads.stop - heads.start, -1).transpose(1, 2) for part in projected
        )
        biases = () if bias is None else (torch.cat(gates, dim=2), bias)
        context = attention.attend(query, key, value, None, *biases)
        return context.transpose(1, 2).flatten(-2)

    def _finish(self, x: Tensor, output: Tensor) -> None:
        """Put the output in the place of attention's contexts, both (frames, D), for input `x`."""
        frame_bytes = self.ffn_in.out_features * x.element_size()
        for chunk in chunks(len(x), frame_bytes, ()):
            attended = x[chunk] + self.attention.out(output[chunk])
            if self.pre_layer_norm:
                inputs = self.ffn_norm(attended)
            else:
                attended = inputs = self.attention_norm(attended)
            attended = attended + self.ffn_out(activated(self.ffn_in, inputs, self.activation))
            output[chunk] = attended if self.pre_layer_norm else self.ffn_norm(attended)
