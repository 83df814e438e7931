"""The Transformer of wav2vec 2.0, HuBERT, WavLM and data2vec (arXiv:2006.11477, section 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.conv_positions import ConvPositionConfig, ConvPositions
from auricle.nn.padding import padding_mask, zero_padding
from auricle.nn.relative_positions import RelativePositionBias, RelativePositionConfig
from auricle.nn.waveform_activations import WAVEFORM_ACTIVATIONS, WaveformActivation

MAX_LAYERS = 1000
"""Deeper ones are taken for damaged configurations."""

NUM_GATES = 2
GATE_INPUTS = 4
"""WavLM's two gates, each the sum of 4 projections (arXiv:2110.13900, equations 4 and 5)."""

MAX_BIAS_ELEMENTS = 2**26
"""Elements of a bias of scores that stand in memory at once (256 MiB in float32)."""


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
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)
        if config.relative_positions is not None:
            head_size = config.hidden_size // config.num_heads
            self.gate = nn.Linear(head_size, NUM_GATES * GATE_INPUTS)
            self.gate_scale = nn.Parameter(torch.ones(1, config.num_heads, 1, 1))

    def forward(self, x: Tensor, padding: Tensor | None, bias: Tensor | None) -> Tensor:
        """Output (B, T, D) for the input `x` (B, T, D).

        `padding` (B, T) is True on frames that nobody attends to; `bias` (H, T, T), queries
        before keys, is gated and added to the scores.
        """
        query, key, value = (
            self._heads(projection(x)) for projection in (self.query, self.key, self.value)
        )
        seen = None if padding is None else ~padding[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        if bias is None:
            context = F.scaled_dot_product_attention(query, key, value, seen, dropout)
        else:
            gates = self._gates(self._heads(x))
            # Queries go in blocks, so that long batches fit: a bias is as large as the scores.
            block = max(MAX_BIAS_ELEMENTS // (gates.shape[0] * bias.shape[0] * bias.shape[1]), 1)
            contexts = []
            for start in range(0, x.shape[1], block):
                rows = slice(start, start + block)
                mask = gates[:, :, rows] * bias[:, rows]
                if seen is not None:
                    mask = mask.masked_fill(~seen, -torch.inf)
                contexts.append(
                    F.scaled_dot_product_attention(query[:, :, rows], key, value, mask, dropout)
                )
            context = torch.cat(contexts, dim=2)
        output: Tensor = self.out(context.transpose(1, 2).flatten(-2))
        return output

    def _heads(self, x: Tensor) -> Tensor:
        """`x` (B, T, D) as (B, H, T, D / H)."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def _gates(self, heads: Tensor) -> Tensor:
        """What the bias is multiplied by (B, H, T, 1), from the attention's input by heads."""
        inputs = self.gate(heads).unflatten(-1, (NUM_GATES, GATE_INPUTS))
        update, reset = inputs.sum(-1).sigmoid().chunk(NUM_GATES, dim=-1)
        gates: Tensor = update * (reset * self.gate_scale - 1.0) + 2.0
        return gates


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each with a residual and a norm after or before it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.activation = WAVEFORM_ACTIVATIONS[config.activation]
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn_in = nn.Linear(config.hidden_size, config.ffn_size)
        self.ffn_out = nn.Linear(config.ffn_size, config.hidden_size)
        self.ffn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, padding: Tensor | None, bias: Tensor | None) -> Tensor:
        """Output (B, T, D) for the input `x` (B, T, D); the rest is as in the attention."""
        if self.config.pre_layer_norm:
            x = x + self._drop(self.attention(self.attention_norm(x), padding, bias))
            return x + self._drop(self._feed_forward(self.ffn_norm(x)))
        x = self.attention_norm(x + self._drop(self.attention(x, padding, bias)))
        normed: Tensor = self.ffn_norm(x + self._drop(self._feed_forward(x)))
        return normed

    def _feed_forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.ffn_in(x))
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

    def forward(self, x: Tensor, num_frames: Sequence[int]) -> Iterator[Tensor]:
        """Yield what enters the first layer, then each layer's output, all (B, T, D).

        `x` is (B, T, D); `num_frames` the true length of each utterance. In pre-norm models the
        last output is behind the final norm.
        """
        config = self.config
        padding = padding_mask(num_frames, x.shape[1], x.device)
        x = zero_padding(x, padding, time_dim=1)
        x = x + self.positions(x, padding)
        if not config.pre_layer_norm:
            x = self.norm(x)
        x = F.dropout(x, config.dropout, self.training)
        yield x
        bias = None if config.relative_positions is None else self.relative_bias(x.shape[1])
        for index, layer in enumerate(self.layers):
            if not self._leaves_out_layer():
                x = layer(x, padding, bias)
            is_last = index + 1 == config.num_layers
            yield self.norm(x) if config.pre_layer_norm and is_last else x

    def _leaves_out_layer(self) -> bool:
        return self.training and torch.rand(()).item() < self.config.layer_drop
