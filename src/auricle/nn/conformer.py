"""Conformer blocks: convolution-augmented Transformer layers (Gulati et al., arXiv:2005.08100)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import FinalNorm
from auricle.nn.batch import Layout, zero_padding
from auricle.nn.conv import Linear, activated
from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import acts, map_chunks
from auricle.nn.layers import (
    WAVEFORM_ACTIVATIONS,
    WaveformActivation,
    check_depth,
    dropout,
    is_left_out,
    normed_states,
)
from auricle.nn.norms import BatchNorm, over_valid_frames
from auricle.nn.relative_positions import DistanceConfig, RelativeAttention

FFN_SHARE = 0.5
"""Share of each of the two feed-forward parts in the sum (ibid., equation 1)."""


class ConformerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of a stack of Conformer blocks.

    Attributes:
        hidden_size: Width (`hidden_size`; fairseq: `encoder_embed_dim`).
        num_layers: Blocks (`num_hidden_layers`; `encoder_layers`).
        num_heads: Attention heads (`num_attention_heads`; `encoder_attention_heads`).
        ffn_size: Width of the feed-forward parts (`intermediate_size`;
            `encoder_ffn_embed_dim`).
        activation: Of the feed-forward parts and of the convolution (`hidden_act`).
        layer_norm_eps: Of the stack's own norm, and of the one before its projection
            (`layer_norm_eps`).
        block_norm_eps: Of every norm of a block (in transformers' wav2vec 2.0 Conformer 1e-5,
            whatever `layer_norm_eps` is).
        positions: The distances that attention knows.
        qkv_bias: Whether the projections to queries, keys and values have biases.
        linear_bias: The same of the projection out of attention and of the feed-forward parts
            (both: `attention_bias`; NeMo: `use_bias`).
        conv_bias: The same of the convolutions (`convolution_bias`).
        kernel_size: Frames that the convolution sees (`conv_depthwise_kernel_size`;
            `depthwise_conv_kernel_size`).
        is_causal: Whether these end with the frame itself instead of having it in the middle.
        conv_norm: The norm after the convolution, of channels over the frames of training
            (`"batch"`) or of each frame over its channels (`"layer"`).
        final_norm: The stack's own norm, before the first block (fairseq without
            `layer_norm_first`), after the last one, or none.
        dropout: Of the input and the feed-forward parts in training (`hidden_dropout`;
            `dropout`).
        attention_dropout: Of attention weights and the output of attention in training.
        activation_dropout: Inside the feed-forward parts in training.
        conv_dropout: Of the output of the convolution in training (`conformer_conv_dropout`).
        layer_drop: Probability of leaving out a block in training (`layerdrop`;
            `encoder_layerdrop`).
    """

    hidden_size: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    ffn_size: int = 4096
    activation: WaveformActivation = "swish"
    layer_norm_eps: float = 1e-5
    block_norm_eps: float = 1e-5
    positions: DistanceConfig = DistanceConfig()
    qkv_bias: bool = True
    linear_bias: bool = True
    conv_bias: bool = False
    kernel_size: int = 31
    is_causal: bool = False
    conv_norm: Literal["layer", "batch"] = "batch"
    final_norm: Literal["none", "first", "last"] = "none"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    conv_dropout: float = 0.1
    layer_drop: float = 0.1

    def __post_init__(self) -> None:
        check_depth(self.num_layers)
        sizes = (self.hidden_size, self.num_heads, self.ffn_size, self.kernel_size)
        if min(sizes) < 1:
            raise ValueError(
                "hidden_size, num_heads, ffn_size and kernel_size must be at least 1, but are "
                f"{', '.join(map(str, sizes))}"
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads ({self.num_heads}), but is "
                f"{self.hidden_size}"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, but is {self.kernel_size}")
        if self.positions.kind == "rotary" and self.hidden_size // self.num_heads % 2:
            raise ValueError(
                "rotary positions need heads of even width, but they are "
                f"{self.hidden_size // self.num_heads} wide"
            )
        if self.positions.kind == "sinusoidal" and self.hidden_size % 2:
            raise ValueError(
                f"sinusoidal positions need an even hidden_size, but it is {self.hidden_size}"
            )


class PointwiseConv(prepack.Prepacking, nn.Conv1d):
    """A convolution of one frame over frames (B, T, C): a linear layer by its original shape."""

    def __init__(self, input_dim: int, dim: int, *, bias: bool) -> None:
        super().__init__(input_dim, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, T, N) for `x` (B, T, C)."""
        return prepack.linear(self, x, self.weight, self.bias, layout=_as_matrix)


def _as_matrix(weight: Tensor) -> Tensor:
    """The weight (N, C, 1) of a pointwise convolution as (N, C)."""
    return weight.flatten(1)


class DepthwiseConv(nn.Conv1d):
    """A convolution of each channel by itself, over frames (B, T, C)."""

    def __init__(self, dim: int, kernel_size: int, *, bias: bool) -> None:
        super().__init__(dim, dim, kernel_size, groups=dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, T - K + 1, C) for `x` (B, T, C)."""
        # Two dimensions, of which one is 1: for the channels of a frame lie side by side, and that
        # is a layout that kernels of images know.
        images = x.contiguous().transpose(1, 2).unsqueeze(2)
        # By way of (C, K), so that the gradient has the layout of the weight, as wrappers demand.
        weight = self.weight.squeeze(1).unsqueeze(1).unsqueeze(1)
        y = F.conv2d(images, weight, self.bias, groups=self.groups)
        return y.squeeze(2).transpose(1, 2)


class FeedForward(nn.Module):
    """Norm, linear, activation, linear."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.block_norm_eps)
        self.linear_in = Linear(config.hidden_size, config.ffn_size, bias=config.linear_bias)
        self.linear_out = Linear(config.ffn_size, config.hidden_size, bias=config.linear_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, T, D) for `x` (B, T, D)."""
        config = self.config

        def feed(chunk: slice) -> Tensor:
            y = activated(self.linear_in, self.norm(x[:, chunk]), config.activation)
            output: Tensor = self.linear_out(dropout(y, config.activation_dropout, self.training))
            return output

        frame_bytes = x.shape[0] * config.ffn_size * x.element_size()
        parts = (self.norm, self.linear_in, self.linear_out)
        return dropout(
            map_chunks(feed, x.shape[1], frame_bytes, parts), config.dropout, self.training
        )


class ConvModule(nn.Module):
    """Norm, gated pointwise, depthwise convolution, norm, activation, pointwise (ibid., 2.2)."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        width, eps, bias = config.hidden_size, config.block_norm_eps, config.conv_bias
        self.norm = nn.LayerNorm(width, eps=eps)
        self.pointwise_in = PointwiseConv(width, 2 * width, bias=bias)
        self.depthwise = DepthwiseConv(width, config.kernel_size, bias=bias)
        self.depthwise_norm = (
            BatchNorm(width, eps=eps) if config.conv_norm == "batch" else nn.LayerNorm(width, eps)
        )
        self.pointwise_out = PointwiseConv(width, width, bias=bias)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Output for the input `x`, both (B, T, D) in `layout`; no utterance sees another."""

        def gate(chunk: slice) -> Tensor:
            return F.glu(self.pointwise_in(self.norm(x[:, chunk])), dim=-1)

        frame_bytes = 3 * x.shape[0] * x.shape[2] * x.element_size()
        parts = (self.norm, self.pointwise_in)
        y = self._convolved(map_chunks(gate, x.shape[1], frame_bytes, parts), x, layout)
        if self.config.conv_norm == "batch":
            y = over_valid_frames(self.depthwise_norm, y.transpose(1, 2), layout.lengths)
            y = y.transpose(1, 2)

        def finish(chunk: slice) -> Tensor:
            z = y[:, chunk]
            if self.config.conv_norm == "layer":
                z = self.depthwise_norm(z)
            output: Tensor = self.pointwise_out(WAVEFORM_ACTIVATIONS[self.config.activation](z))
            return output

        ending = (self.depthwise_norm, self.pointwise_out)
        output = map_chunks(finish, x.shape[1], frame_bytes, ending)
        return dropout(output, self.config.conv_dropout, self.training)

    def _convolved(self, y: Tensor, x: Tensor, layout: Layout) -> Tensor:
        """The depthwise convolution of `y` (B, T, D), zeros beyond the ends of each utterance."""
        after = 0 if self.config.is_causal else self.config.kernel_size // 2
        before = self.config.kernel_size - 1 - after
        if not layout.is_packed:
            y = F.pad(zero_padding(y, layout.padding(x), time_dim=1), (0, 0, before, after))
            output: Tensor = self.depthwise(y)
            return output
        # Zeros between utterances serve the end of one and the start of the next.
        gap = max(before, after)
        edges = y.new_zeros(1, gap, y.shape[2])
        pieces = [part for one in layout.slices for part in (edges, y[:, one])]
        convolved = self.depthwise(torch.cat([*pieces, edges], dim=1))
        starts = [one.start + (index + 1) * gap - before for index, one in enumerate(layout.slices)]
        rows = [
            convolved[:, start : start + one.stop - one.start]
            for start, one in zip(starts, layout.slices, strict=True)
        ]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


class ConformerBlock(nn.Module):
    """One block; every part has a norm before it and a residual around it, and one norm ends it."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.attention_dropout = config.attention_dropout
        self.ffn1 = FeedForward(config)
        self.attention_norm = nn.LayerNorm(width, eps=config.block_norm_eps)
        self.attention = RelativeAttention(
            width,
            num_heads=config.num_heads,
            dropout=config.attention_dropout,
            positions=config.positions,
            has_bias=config.qkv_bias,
            has_out_bias=config.linear_bias,
        )
        self.conv = ConvModule(config)
        self.ffn2 = FeedForward(config)
        self.norm = nn.LayerNorm(width, eps=config.block_norm_eps)

    def forward(self, x: Tensor, layout: Layout, table: Tensor | None = None) -> Tensor:
        """Output for the input `x`, both (B, T, D) in `layout`.

        `table` is that of `DistanceConfig.table`.
        """
        x = torch.add(x, self.ffn1(x), alpha=FFN_SHARE)
        attended = self.attention(self.attention_norm(x), layout, table)
        x = x + dropout(attended, self.attention_dropout, self.training)
        x = x + self.conv(x, layout)
        normed: Tensor = self.norm(torch.add(x, self.ffn2(x), alpha=FFN_SHARE))
        return normed

    def linears(self) -> list[nn.Module]:
        """The linear layers that reduced precision (int8) may serve."""
        attention = self.attention
        parts = [part for ffn in (self.ffn1, self.ffn2) for part in (ffn.linear_in, ffn.linear_out)]
        return [attention.query, attention.key, attention.value, attention.out, *parts]


class Conformer(nn.Module):
    """Projected frames to hidden states."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        if config.final_norm != "none":
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_layers))

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        generator: torch.Generator | None = None,
        *,
        final_norm: FinalNorm = "keep",
    ) -> Iterable[Tensor]:
        """The first block's input, then each block's output, in order, as asked for.

        Args:
            x: (B, T, D), padded, whatever the layout is.
            layout: Lengths of the utterances, and the layout of what is returned. Packed is for
                inference.
            generator: Source of the blocks that training leaves out; None for torch's own.
            final_norm: Outputs that a norm after the last block is applied to.

        Returns:
            Padded (B, T, D) or packed (1, N, D).
        """
        states = self._states(x, layout, generator, final_norm)
        return tuple(states) if acts(self) else states

    def _states(
        self, x: Tensor, layout: Layout, generator: torch.Generator | None, final_norm: FinalNorm
    ) -> Iterator[Tensor]:
        config = self.config
        is_normed = [False] * (config.num_layers + 1)
        if config.final_norm == "last":
            is_normed = normed_states(final_norm, config.num_layers)
        width = config.hidden_size
        table = config.positions.table(
            x.shape[1], width=width, head_size=width // config.num_heads, like=x
        )
        x = layout.pack(x) if layout.is_packed else zero_padding(x, layout.padding(x), time_dim=1)
        if config.final_norm == "first":
            x = self.norm(x)
        x = dropout(x, config.dropout, self.training)
        yield self.norm(x) if is_normed[0] else x
        for index, layer in enumerate(self.layers):
            if not (self.training and is_left_out(layer, config.layer_drop, generator)):
                x = layer(x, layout, table)
            yield self.norm(x) if is_normed[index + 1] else x
