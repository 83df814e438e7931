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
from auricle.nn.attention import SelfAttention
from auricle.nn.batch import Layout
from auricle.nn.chunking import chunks
from auricle.nn.cpu.policy import is_plain_tensor
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
        qkv_bias: bool = True,
        has_gated_bias: bool = False,
        has_key_bias: bool = True,
    ) -> None:
        super().__init__()
        self.pre_layer_norm = pre_layer_norm
        self.activation = activation
        self.dropout = dropout
        self.activation_dropout = activation_dropout
        self.attention = SelfAttention(
            width,
            num_heads=num_heads,
            dropout=attention_dropout,
            has_bias=qkv_bias,
            has_key_bias=has_key_bias,
            has_gated_bias=has_gated_bias,
        )
        self.attention_norm = nn.LayerNorm(width, eps=layer_norm_eps)
        self.ffn_in = Linear(width, ffn_size)
        self.ffn_out = Linear(ffn_size, width)
        self.ffn_norm = nn.LayerNorm(width, eps=layer_norm_eps)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        bias: Tensor | None = None,
        num_queries: int | None = None,
        *,
        gives_ffn: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Output for the input `x`, both (B, T, D) in `layout`.

        `bias` (H, T, T), queries before keys and the last query first, is that of attention
        scores. With `num_queries` the output is (B, num_queries, D), of the first frames of a
        padded batch, which attend to all others; only for norms before the parts. With `gives_ffn`
        the output comes with that of the feed-forward part (B, T, D), before dropout, residual and
        norm.
        """
        if layout.is_packed and self.is_long(x):
            return self._in_chunks(x, layout, bias, gives_ffn=gives_ffn)
        if self.pre_layer_norm:
            attended = self.attention(self.attention_norm(x), layout, bias, num_queries)
            x = x[:, :num_queries] + self._drop(attended)
            ffn = self._feed_forward(self.ffn_norm(x))
            output = x + self._drop(ffn)
        else:
            x = self.attention_norm(x + self._drop(self.attention(x, layout, bias)))
            ffn = self._feed_forward(x)
            output = self.ffn_norm(x + self._drop(ffn))
        return (output, ffn) if gives_ffn else output

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

    def _in_chunks(
        self, x: Tensor, layout: Layout, bias: Tensor | None, *, gives_ffn: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Output (1, N, D) for the contiguous packed `x` (1, N, D), which stays as it is."""
        # Contexts first, then over each chunk of them the output of the layer.
        output = torch.empty_like(x)
        ffn = torch.empty_like(x) if gives_ffn else None
        num_heads = self.attention.num_heads
        width = x.shape[2] // num_heads
        for utterance in layout.slices:
            length = utterance.stop - utterance.start
            for heads in chunks(num_heads, 3 * length * width * x.element_size(), ()):
                near = None if bias is None else bias[heads, bias.shape[1] - length :, :length]
                columns = slice(heads.start * width, heads.stop * width)
                output[:, utterance, columns] = self._context(x[:, utterance], heads, columns, near)
        self._finish(x[0], output[0], None if ffn is None else ffn[0])
        return output if ffn is None else (output, ffn)

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
                target[:, chunk] = _columns_of(linear, inputs, columns)
            if bias is not None and attention.has_gated_bias:
                gates.append(attention.gates(inputs[..., columns], heads))
        query, key, value = (
            part.view(1, length, heads.stop - heads.start, -1).transpose(1, 2) for part in projected
        )
        context = attention.attend(
            query, key, value, None, bias, torch.cat(gates, dim=2) if gates else None
        )
        return context.transpose(1, 2).flatten(-2)

    def _finish(self, x: Tensor, output: Tensor, ffn: Tensor | None) -> None:
        """Put the output in the place of attention's contexts, both (frames, D), for input `x`.

        `ffn` (frames, D) takes the output of the feed-forward part.
        """
        frame_bytes = self.ffn_in.out_features * x.element_size()
        for chunk in chunks(len(x), frame_bytes, ()):
            attended = x[chunk] + self.attention.out(output[chunk])
            if self.pre_layer_norm:
                inputs = self.ffn_norm(attended)
            else:
                attended = inputs = self.attention_norm(attended)
            inner = self.ffn_out(activated(self.ffn_in, inputs, self.activation))
            if ffn is not None:
                ffn[chunk] = inner
            attended = attended + inner
            output[chunk] = attended if self.pre_layer_norm else self.ffn_norm(attended)


def is_left_out(
    layer: nn.Module, probability: float, generator: torch.Generator | None = None
) -> bool:
    """Draw if a step of training leaves a layer out (LayerDrop, arXiv:1909.11556).

    Processes that hold a part of its weights each wait for each other in it: it is never left
    out by some of them.
    """
    is_whole = all(is_plain_tensor(parameter) for parameter in layer.parameters())
    chance = torch.rand((), generator=generator, device="cpu").item()
    return chance < probability and is_whole


def _columns_of(linear: nn.Module, x: Tensor, columns: slice) -> Tensor:
    """Some columns of the output of `linear` for `x`."""
    if type(linear) is Linear:
        bias = None if linear.bias is None else linear.bias[columns]
        return F.linear(x, linear.weight[columns], bias)
    # Whatever stands in its place, an adapter for one, need not be its weights alone.
    output: Tensor = linear(x)
    return output[..., columns]
