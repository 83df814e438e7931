"""Transformer layers over long sequences, with little in memory beside input and output.

What a layer computes of each frame by itself (projections, feed-forward, norms) is computed a
stretch of frames at a time, and attention some rows and some heads at a time, over the true frames
of those rows. The kernels of `scaled_dot_product_attention` hold no scores of all pairs of frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.chunks import chunks
from auricle.nn.linear import Linear, activated
from auricle.nn.padding import padding_mask
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


def is_long(x: Tensor, layer: Layer) -> bool:
    """Whether a layer over `x` (B, T, D) should go by `run_layer`: never in training."""
    num_frames = x.shape[0] * x.shape[1]
    frame_bytes = layer.ffn_in.out_features * x.element_size()
    return not layer.training and len(chunks(num_frames, frame_bytes)) > LONG_CHUNKS


def run_layer(
    layer: Layer, x: Tensor, num_frames: Sequence[int], bias: Tensor | None = None
) -> Tensor:
    """Output (B, T, D) of `layer` for the contiguous `x` (B, T, D), which stays as it is.

    Args:
        layer: A layer in eval mode.
        x: The input.
        num_frames: True length of each row.
        bias: Of the scores, (H, T, T), for a `GatedAttention`; its last queries are the first.

    Returns:
        The output; frames past a true end hold anything.
    """
    # Contexts first, then over each stretch of them what comes out of the layer.
    output = torch.zeros_like(x)
    norm = layer.attention_norm if layer.pre_layer_norm else None
    for rows, heads, length in _groups(layer.attention, x, num_frames):
        inputs = x[rows, :length]
        padding = padding_mask(num_frames[rows], length, x.device)
        seen = None if padding is None else ~padding[:, None, None, :]
        near = None if bias is None else bias[heads, bias.shape[1] - length :, :length]
        width = x.shape[2] // layer.attention.num_heads
        columns = slice(heads.start * width, heads.stop * width)
        output[rows, :length, columns] = _context(
            layer.attention, inputs, norm, heads, columns, seen, near
        )
    _finish(layer, x.flatten(0, 1), output.flatten(0, 1))
    return output


def _groups(
    attention: Attention, x: Tensor, num_frames: Sequence[int]
) -> Iterator[tuple[slice, slice, int]]:
    """Rows and heads that are computed together, and the length of the longest row of them."""
    num_rows, max_frames, width = x.shape
    frame_bytes = 3 * width * x.element_size()
    for rows in chunks(num_rows, max_frames * frame_bytes):
        length = max(num_frames[rows])
        row_bytes = (rows.stop - rows.start) * length * frame_bytes
        for heads in chunks(attention.num_heads, row_bytes // attention.num_heads):
            yield rows, heads, length


def _context(
    attention: Any,
    x: Tensor,
    norm: nn.LayerNorm | None,
    heads: slice,
    columns: slice,
    seen: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """What some heads make of `x` (B, T, D), as (B, T, columns)."""
    num_rows, length, width = x.shape
    num_columns = columns.stop - columns.start
    projected = [x.new_empty(num_rows, length, num_columns) for _ in range(3)]
    gates = []
    for stretch in chunks(length, num_rows * width * x.element_size()):
        inputs = x[:, stretch] if norm is None else norm(x[:, stretch])
        for target, linear in zip(
            projected, (attention.query, attention.key, attention.value), strict=True
        ):
            target[:, stretch] = _columns_of(linear, inputs, columns)
        if bias is not None:
            gates.append(attention.gates(inputs[..., columns], heads))
    query, key, value = (
        part.view(num_rows, length, heads.stop - heads.start, -1).transpose(1, 2)
        for part in projected
    )
    biases = () if bias is None else (torch.cat(gates, dim=2), bias)
    context: Tensor = attention.attend(query, key, value, seen, *biases)
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
    for stretch in chunks(len(x), frame_bytes):
        attended = x[stretch] + layer.attention.out(output[stretch])
        if layer.pre_layer_norm:
            inputs = layer.ffn_norm(attended)
        else:
            attended = inputs = layer.attention_norm(attended)
        attended = attended + layer.ffn_out(activated(layer.ffn_in, inputs, layer.activation))
        output[stretch] = attended if layer.pre_layer_norm else layer.ffn_norm(attended)
