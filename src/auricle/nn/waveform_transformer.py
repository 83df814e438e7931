"""The Transformer of wav2vec 2.0, HuBERT, WavLM and data2vec (arXiv:2006.11477, section 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.attention import attend, attend_packed
from auricle.nn.batch import Layout, padding_mask, zero_padding
from auricle.nn.conv_positions import ConvPositionConfig, ConvPositions
from auricle.nn.cpu.policy import acts, is_plain_tensor
from auricle.nn.linear import Linear, activated
from auricle.nn.long_layers import is_long, run_layer
from auricle.nn.relative_positions import RelativePositionBias, RelativePositionConfig
from auricle.nn.stretches import by_stretches
from auricle.nn.waveform_activations import WaveformActivation

MAX_LAYERS = 1000
"""Deeper ones are taken for damaged configurations."""

NUM_GATES = 2
GATE_INPUTS = 4
"""WavLM's two gates, each the sum of 4 projections (arXiv:2110.13900, equations 4 and 5)."""

MAX_BIAS_ELEMENTS = 2**26
"""Elements of a bias of scores that stand in memory at once (256 MiB in float32)."""

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
        positions: The convolutions that tell positions.
        relative_positions: The bias of attention scores (WavLM), or None.
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


class SelfAttention(nn.Module):
    """Multi-head self-attention, in WavLM with a gated bias of its scores."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        self.out = Linear(config.hidden_size, config.hidden_size)
        if config.relative_positions is not None:
            self.head_size = config.hidden_size // config.num_heads
            self.gate = Linear(self.head_size, NUM_GATES * GATE_INPUTS)
            self.gate_scale = nn.Parameter(torch.ones(1, config.num_heads, 1, 1))

    def forward(self, x: Tensor, layout: Layout, bias: Tensor | None) -> Tensor:
        """Output for the input `x`, both (B, T, D) in `layout`; each utterance attends to itself.

        `bias` (H, T, T), queries before keys and the last query first, is gated and added to the
        scores.
        """
        query, key, value = (
            self._heads(projection(x)) for projection in (self.query, self.key, self.value)
        )
        biases = () if bias is None else (self.gates(x), bias)
        if layout.is_packed:
            context = self._attend_packed(query, key, value, layout, *biases)
        else:
            padding = layout.padding(x)
            seen = None if padding is None else ~padding[:, None, None, :]
            context = self.attend(query, key, value, seen, *biases)
        output: Tensor = self.out(context.transpose(1, 2).flatten(-2))
        return output

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, *biases: Tensor
    ) -> Tensor:
        """Contexts (B, H, T, D / H) of queries, keys and values of that shape.

        `seen` (B, 1, 1, T) is False on frames that are not attended to; `biases` are gates
        (B, H, T, 1) and the bias that is multiplied by them, where there is one.
        """
        dropout = self.dropout if self.training else 0.0
        if not biases:
            return attend(query, key, value, seen, dropout)
        gates, bias = biases
        # Queries go in blocks, so that long batches fit: a gated bias is as large as the scores.
        num_rows, (num_heads, num_frames, _) = len(gates), bias.shape
        block = max(MAX_BIAS_ELEMENTS // (num_rows * num_heads * num_frames), 1)
        # One piece of memory for all of them: new pages take longer to come than to be filled.
        scratch = None
        if not torch.is_grad_enabled():
            shape = (num_rows, num_heads, min(block, num_frames), num_frames)
            scratch = bias.new_empty(shape, dtype=torch.result_type(gates, bias))
        contexts = []
        for start in range(0, num_frames, block):
            stop = min(start + block, num_frames)
            rows = slice(start, stop)
            # The bias has the last query first, so these of them are turned round and back.
            factors = gates[:, :, rows].flip(2), bias[:, num_frames - stop : num_frames - start]
            if scratch is None:
                mask = factors[0] * factors[1].contiguous()
            else:
                mask = torch.mul(*factors, out=scratch[:, :, : stop - start])
            if seen is not None:
                mask = mask.masked_fill_(~seen, -torch.inf)
            turned = query[:, :, rows].flip(2)
            contexts.append(attend(turned, key, value, mask, dropout).flip(2))
        return torch.cat(contexts, dim=2)

    def _attend_packed(
        self, query: Tensor, key: Tensor, value: Tensor, layout: Layout, *biases: Tensor
    ) -> Tensor:
        """As `attend`, of packed utterances."""
        if not biases:
            return attend_packed(query, key, value, layout)
        gates, bias = biases
        contexts = []
        for one in layout.slices:
            length = one.stop - one.start
            near = bias[:, bias.shape[1] - length :, :length]
            own = query[:, :, one], key[:, :, one], value[:, :, one]
            contexts.append(self.attend(*own, None, gates[:, :, one], near))
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)

    def gates(self, inputs: Tensor, heads: slice = slice(None)) -> Tensor:
        """What the bias is multiplied by (B, H, T, 1), from the attention's input (B, T, D).

        With `heads` it is for those alone, from their part of the input.
        """
        by_head = inputs.reshape(*inputs.shape[:-1], -1, self.head_size).transpose(1, 2)
        sums = self.gate(by_head).unflatten(-1, (NUM_GATES, GATE_INPUTS)).sum(-1)
        update, reset = sums.sigmoid().chunk(NUM_GATES, dim=-1)
        gates: Tensor = update * (reset * self.gate_scale[:, heads] - 1.0) + 2.0
        return gates

    def _heads(self, x: Tensor) -> Tensor:
        """`x` (B, T, D) as (B, H, T, D / H)."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each with a residual and a norm after or before it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.activation = config.activation
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn_in = Linear(config.hidden_size, config.ffn_size)
        self.ffn_out = Linear(config.ffn_size, config.hidden_size)
        self.ffn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    @property
    def pre_layer_norm(self) -> bool:
        """Whether norms come before attention and feed-forward."""
        return self.config.pre_layer_norm

    def forward(self, x: Tensor, layout: Layout, bias: Tensor | None) -> Tensor:
        """Output (B, T, D) for the input `x` (B, T, D); the rest is as in the attention."""
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

    def _feed_forward(self, x: Tensor) -> Tensor:
        x = activated(self.ffn_in, x, self.activation)
        x = F.dropout(x, self.config.activation_dropout, self.training)
        output: Tensor = self.ffn_out(x)
        return output

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


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
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_layers))
        if config.relative_positions is not None:
            self.relative_bias = RelativePositionBias(
                config.relative_positions, num_heads=config.num_heads
            )

    def forward(
        self, x: Tensor, layout: Layout, generator: torch.Generator | None = None
    ) -> Iterable[Tensor]:
        """The first layer's input, then each layer's output, in order, as asked for.

        Args:
            x: (B, T, D), padded, whatever the layout is.
            layout: Lengths of the utterances, and the layout of what is returned. Packed is for
                inference.
            generator: Source of the layers that training leaves out; None for torch's own, from
                which dropout comes.

        Returns:
            Padded (B, T, D) or packed (1, N, D). In pre-norm models the final LayerNorm is applied
            to the last output.
        """
        states = self._states(x, layout, generator)
        return tuple(states) if acts(self) else states

    def _states(
        self, x: Tensor, layout: Layout, generator: torch.Generator | None
    ) -> Iterator[Tensor]:
        config = self.config
        padding = padding_mask(layout.lengths, x.shape[1], x.device)
        x = self._embed(zero_padding(x, padding, time_dim=1), padding)
        x = F.dropout(x, config.dropout, self.training)
        max_frames = x.shape[1]
        if layout.is_packed:
            x = layout.pack(x)
        yield x
        bias = None if config.relative_positions is None else self.relative_bias(max_frames)
        for index, layer in enumerate(self.layers):
            if self.training and self._is_left_out(layer, generator):
                pass
            elif layout.is_packed and is_long(layer, x):
                x = run_layer(layer, x, layout, bias)
            else:
                x = layer(x, layout, bias)
            yield self._emit(x, index)

    def _is_left_out(self, layer: nn.Module, generator: torch.Generator | None) -> bool:
        """Whether this step of training leaves a layer out, by chance (LayerDrop).

        Processes that hold a part of its weights each wait for each other in it: it is never left
        out by some of them.
        """
        is_whole = all(is_plain_tensor(parameter) for parameter in layer.parameters())
        chance = torch.rand((), generator=generator, device="cpu").item()
        return chance < self.config.layer_drop and is_whole

    def _emit(self, x: Tensor, index: int) -> Tensor:
        """The output of layer `index` as others see it."""
        is_last = index + 1 == self.config.num_layers
        emitted: Tensor = self.norm(x) if self.config.pre_layer_norm and is_last else x
        return emitted

    def _embed(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """What the first layer reads (B, T, D), of `x` (B, T, D) that is zero on padding."""

        def embed(stretch: slice) -> Tensor:
            embedded = x[:, stretch] + self.positions(x, padding, stretch)
            normed: Tensor = embedded if self.config.pre_layer_norm else self.norm(embedded)
            return normed

        parts = [self.positions] if self.config.pre_layer_norm else [self.positions, self.norm]
        # not `nbytes`, which torch.compile does not know of batches whose size changes
        frame_bytes = x.shape[0] * x.shape[2] * x.element_size()
        return by_stretches(embed, x.shape[1], POSITION_VALUES * frame_bytes, parts)
