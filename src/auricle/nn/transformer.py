"""Transformer layers, with norms before or after their two parts, and a stack of them.

Over a long packed sequence, what the layer computes of each frame by itself (projections,
feed-forward, norms) is computed a chunk of frames at a time, and attention an utterance and some
heads at a time, with little in memory beside input and output. The kernels of
`scaled_dot_product_attention` hold no scores of all pairs of frames.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec
import torch
from torch import Tensor, nn

from auricle.info import FinalNorm
from auricle.nn.attention import (
    Alibi,
    AlibiConfig,
    RelativePositionBias,
    RelativePositionConfig,
    SelfAttention,
)
from auricle.nn.batch import Layout, padding_mask, zero_padding
from auricle.nn.conv import Linear, activated, columns_of
from auricle.nn.conv_positions import ConvPositionConfig, ConvPositions
from auricle.nn.cpu.policy import acts, chunks, is_traced, map_chunks
from auricle.nn.layers import (
    FfnActivation,
    WaveformActivation,
    check_depth,
    dropout,
    is_left_out,
    normed_states,
)

LONG_CHUNKS = 4
"""A batch is long where the feed-forward part's hidden values would fill more than so many chunks;
below, a layer is quicker whole."""

POSITION_VALUES = 8
"""Values per feature that stand in memory while positions are computed."""


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each with a residual and a norm after or before it."""

    is_recomputed = False

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        ffn_size: int,
        activation: FfnActivation,
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
        self.ffn_in = Linear(width, ffn_size * (2 if activation == "swiglu" else 1))
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
        norm. With `is_recomputed` the backward pass computes the layer again.
        """
        if self.is_recomputed and torch.is_grad_enabled() and not is_traced():
            from torch.utils.checkpoint import checkpoint  # with the compiler

            inputs = x, layout, bias, num_queries, gives_ffn
            output: Tensor | tuple[Tensor, Tensor] = checkpoint(
                self._output, *inputs, use_reentrant=False
            )
            return output
        return self._output(x, layout, bias, num_queries, gives_ffn)

    def _output(
        self,
        x: Tensor,
        layout: Layout,
        bias: Tensor | None,
        num_queries: int | None,
        gives_ffn: bool,
    ) -> Tensor | tuple[Tensor, Tensor]:
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
        # The width of what stands in its place is not known; and nothing drops out in chunks.
        if not isinstance(self.ffn_in, Linear) or self.training or self.attention.training:
            return False
        frame_bytes = self.ffn_in.out_features * x.element_size()
        return len(chunks(x.shape[1], frame_bytes, (self,))) > LONG_CHUNKS

    def _feed_forward(self, x: Tensor) -> Tensor:
        x = activated(self.ffn_in, x, self.activation)
        x = dropout(x, self.activation_dropout, self.training)
        output: Tensor = self.ffn_out(x)
        return output

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)

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
                target[:, chunk] = columns_of(linear, inputs, columns)
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
        relative_positions: The bias of attention scores that WavLM gates, or None.
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
    activation: FfnActivation = "gelu"
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

    trains_packed = True

    def __init__(
        self, config: TransformerConfig, *, position_activation: WaveformActivation
    ) -> None:
        super().__init__()
        self.config = config
        self.positions = ConvPositions(
            config.positions, dim=config.hidden_size, activation=position_activation
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        relative = config.relative_positions
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
                has_gated_bias=relative is not None and relative.gated,
            )
            for _ in range(config.num_layers)
        )
        if relative is not None:
            self.relative_bias = RelativePositionBias(relative, num_heads=config.num_heads)
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
            layout: Lengths of the utterances, and the layout of what is returned.
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
        is_normed = [False] * (config.num_layers + 1)
        if config.pre_layer_norm:
            is_normed = normed_states(final_norm, config.num_layers)
        padding = padding_mask(layout.lengths, x.shape[1], x.device)
        x = self._embed(zero_padding(x, padding, time_dim=1), padding)
        x = dropout(x, config.dropout, self.training)
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
