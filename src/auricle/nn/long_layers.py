"""Transformer layers over long sequences, with little in memory beside input and output.

What a layer computes of each frame by itself (projections, feed-forward, norms) is computed a
stretch of frames at a time, and attention an utterance and some heads at a time. The kernels of
`scaled_dot_product_attention` hold no scores of all pairs of frames.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.batch import Layout
from auricle.nn.chunks import chunks
from auricle.nn.linear import Linear, activated
from auricle.nn.waveform_activations import WaveformActivation

LONG_CHUNKS = 4
"""A batch is long where the feed-forward part's hidden values would fill more than so many chunks;
below, a layer is quicker whole."""


class Attention(Protocol):
    """Self-attention whose heads can be computed apart."""

    num_heads: int
    query: Linear
    key: Linear
    value: Linear
    out: Linear

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, *biases: Tensor
    ) -> Tensor:
        """Contexts (B, H, T, D / H) of queries, keys and values of that shape.

        `seen` (B, 1, 1, T) is False on frames that nobody attends to.
        """
        ...


class GatedAttention(Attention, Protocol):
    """Self-attention with a gated bias of its scores, which `attend` takes behind its gates."""

    def gates(self, inputs: Tensor, heads: slice) -> Tensor:
        """Gates (B, H, T, 1) of some heads from their part (B, T, D) of the input."""
        ...


class Layer(Protocol):
    """A Transformer layer, with norms before or after its two parts."""

    training: bool

    @property
    def activation(self) -> WaveformActivation:
        """Of the feed-forward part."""
        ...

    attention: Any
    attention_norm: nn.LayerNorm
    ffn_in: Linear
    ffn_out: Linear
    ffn_norm: nn.LayerNorm

    @property
    def pre_layer_norm(self) -> bool:
        """Whether norms come before attention and feed-forward."""
        ...


def is_long(layer: nn.Module, x: Tensor) -> TypeGuard[Layer]:
    """Whether a layer over `x` (1, N, D) should go by `run_layer`."""
    ffn_in = layer.ffn_in
    if not isinstance(ffn_in, Linear):  # whose width is not known
        return False
    frame_bytes = ffn_in.out_features * x.element_size()
    return len(chunks(x.shape[1], frame_bytes, (layer,))) > LONG_CHUNKS


def run_layer(layer: Layer, x: Tensor, layout: Layout, bias: Tensor | None = None) -> Tensor:
    """Output (1, N, D) of `layer` for the contiguous `x` (1, N, D), which stays as it is.

    Args:
        layer: A layer in eval mode that `is_long` takes.
        x: The input.
        layout: Where its packed utterances lie.
        bias: Of the scores, (H, T, T), for a `GatedAttention`; its last queries are the first.
    """
    # Contexts first, then over each stretch of them what comes out of the layer.
    output = torch.empty_like(x)
    norm = layer.attention_norm if layer.pre_layer_norm else None
    num_heads = layer.attention.num_heads
    width = x.shape[2] // num_heads
    for utterance in layout.slices:
        length = utterance.stop - utterance.start
        for heads in chunks(num_heads, 3 * length * width * x.element_size(), ()):
            near = None if bias is None else bias[heads, bias.shape[1] - length :, :length]
            columns = slice(heads.start * width, heads.stop * width)
            output[:, utterance, columns] = _context(
                layer.attention, x[:, utterance], norm, heads, columns, near
            )
    _finish(layer, x[0], output[0])
    return output


def _context(
    attention: Any,
    x: Tensor,
    norm: nn.LayerNorm | None,
    heads: slice,
    columns: slice,
    bias: Tensor | None,
) -> Tensor:
    """What some heads make of an utterance `x` (1, T, D), as (1, T, columns)."""
    _, length, width = x.shape
    num_columns = columns.stop - columns.start
    projected = [x.new_empty(1, length, num_columns) for _ in range(3)]
    gates = []
    for stretch in chunks(length, width * x.element_size(), ()):
        inputs = x[:, stretch] if norm is None else norm(x[:, stretch])
        for target, linear in zip(
            projected, (attention.query, attention.key, attention.value), strict=True
        ):
            target[:, stretch] = _columns_of(linear, inputs, columns)
        if bias is not None:
            gates.append(attention.gates(inputs[..., columns], heads))
    query, key, value = (
        part.view(1, length, heads.stop - heads.start, -1).transpose(1, 2) for part in projected
    )
    biases = () if bias is None else (torch.cat(gates, dim=2), bias)
    context: Tensor = attention.attend(query, key, value, None, *biases)
    return context.transpose(1, 2).flatten(-2)


def _columns_of(linear: nn.Module, x: Tensor, columns: slice) -> Tensor:
    """Some columns of what `linear` gives for `x`."""
    if type(linear) is Linear:
        bias = None if linear.bias is None else linear.bias[columns]
        return F.linear(x, linear.weight[columns], bias)
    # Whatever stands in its place, an adapter for one, need not be its weights alone.
    output: Tensor = linear(x)
    return output[..., columns]


def _finish(layer: Layer, x: Tensor, output: Tensor) -> None:
    """Put the layer's output in the place of attention's contexts, both (frames, D).

    `x` is the layer's input.
    """
    frame_bytes = layer.ffn_in.out_features * x.element_size()
    for stretch in chunks(len(x), frame_bytes, ()):
        attended = x[stretch] + layer.attention.out(output[stretch])
        if layer.pre_layer_norm:
            inputs = layer.ffn_norm(attended)
        else:
            attended = inputs = layer.attention_norm(attended)
        attended = attended + layer.ffn_out(activated(layer.ffn_in, inputs, layer.activation))
        output[stretch] = attended if layer.pre_layer_norm else layer.ffn_norm(attended)
