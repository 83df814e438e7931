"""Self-attention by torch's kernels, over padded or packed utterances, and biases of distance."""

from __future__ import annotations

import functools
import math
from importlib import import_module

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.batch import Layout, as_ints
from auricle.nn.conv import Linear
from auricle.nn.cpu.policy import is_traced, runs_on_cpu
from auricle.nn.layers import attend_dropping

VARLEN_TOLERANCES = {torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""Types of the kernel for packed utterances, and how far the check lets it be from float64."""

NUM_GATES = 2
GATE_INPUTS = 4
"""WavLM's two gates, each the sum of 4 projections (arXiv:2110.13900, equations 4 and 5)."""

MAX_BIAS_ELEMENTS = 2**26
"""Elements of a bias of scores that stand in memory at once (256 MiB in float32)."""


CACHE_STRIDE_BYTES = 4096
"""Values so many bytes apart, or a multiple of it, share few lines of a CPU's cache."""


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, drop: float = 0.0
) -> Tensor:
    """Contexts (B, H, T, D) of queries, keys and values (Vaswani et al. 2017, equation 1).

    `mask` is boolean, True where a key is seen, or added to the scores; `drop` the probability
    with which weights of values are left out. The CPU's kernel for float32 is faster than that for
    half the bits, and more precise.
    """
    dtype = query.dtype
    if runs_on_cpu(query) and dtype in (torch.bfloat16, torch.float16):
        query, key, value = query.float(), key.float(), value.float()
    if _crowds_cache(query):
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    if mask is not None and mask.is_floating_point():
        mask = mask.to(query.dtype)
    if drop and runs_on_cpu(query) and not is_traced():
        return attend_dropping(query, key, value, mask, drop).to(dtype)
    return F.scaled_dot_product_attention(query, key, value, mask, drop).to(dtype)


def _crowds_cache(x: Tensor) -> bool:
    """True if the frames of a head (B, H, T, D) lie so far apart that they push each other out.

    As those of models 1024 wide do; copies side by side cost less than that.
    """
    if torch.is_grad_enabled() or is_traced() or not runs_on_cpu(x):
        return False
    return x.stride(2) * x.element_size() % CACHE_STRIDE_BYTES == 0


def attend_packed(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, drop: float = 0.0
) -> Tensor:
    """Contexts (1, H, N, D) of packed utterances, each of which attends to itself alone.

    On GPUs that have it, flash attention of variable length takes all of them at once (Dao,
    arXiv:2307.08691), in half the bits of float32; without it they go one after the other.
    """
    if len(layout.lengths) > 1 and _has_varlen(query):
        return _varlen(query, key, value, layout)
    contexts = [
        attend(query[:, :, one], key[:, :, one], value[:, :, one], None, drop)
        for one in layout.slices
    ]
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)


def _has_varlen(query: Tensor) -> bool:
    return (
        query.is_cuda
        and not torch.is_grad_enabled()
        and query.dtype in VARLEN_TOLERANCES
        and _varlen_is_right(query.device, query.dtype, query.shape[3])
    )


def _varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """As `attend_packed`, by one kernel."""
    boundaries, longest = layout.boundaries(query.device), max(as_ints(layout.lengths))
    rows = [part[0].transpose(0, 1) for part in (query, key, value)]
    kernel = import_module("torch.nn.attention.varlen").varlen_attn
    context: Tensor = kernel(*rows, boundaries, boundaries, longest, longest)
    return context.transpose(0, 1).unsqueeze(0)


@functools.cache
def _varlen_is_right(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Check at first use that the kernel exists and is right for heads of this width."""
    layout = Layout([5, 130, 1, 64], is_packed=True)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.no_grad():
        shape = (3, 1, 2, sum(as_ints(layout.lengths)), width)
        parts = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        expected = [
            F.scaled_dot_product_attention(*(part[:, :, one].double() for part in parts))
            for one in layout.slices
        ]
        query, key, value = parts.to(device)
        try:
            context = _varlen(query, key, value, layout).cpu().double()
        except (ImportError, AttributeError, TypeError, RuntimeError):
            return False
        error = (context - torch.cat(expected, dim=2)).abs().max().item()
        return error <= VARLEN_TOLERANCES[dtype]


class RelativePositionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the bias.

    Attributes:
        num_buckets: Entries of the table, half for each direction (`num_buckets`; 320).
        max_distance: Distance in frames from which on all share a bucket
            (`max_bucket_distance`; 800).
        gated: Whether gates computed from the frames multiply the bias (`gru_rel_pos`).
    """

    num_buckets: int = 320
    max_distance: int = 800
    gated: bool = True

    def __post_init__(self) -> None:
        # Half of a direction's buckets hold one distance each, and the rest grow to the maximum.
        if self.num_buckets < 4 or self.max_distance <= self.num_buckets // 4:
            raise ValueError(
                "num_buckets must be at least 4 and max_distance more than a quarter of it, but "
                f"they are {self.num_buckets} and {self.max_distance}"
            )


@functools.lru_cache(maxsize=8)
def _offset_buckets(reach: int, config: RelativePositionConfig) -> Tensor:
    """Buckets (2 reach + 1,), int64, of the offsets key - query from -reach to reach."""
    with torch.inference_mode(False):
        offsets = torch.arange(-reach, reach + 1, device="cpu")
        per_direction = config.num_buckets // 2
        num_exact = per_direction // 2
        distances = offsets.abs()
        # In float32, as the reference computes it: its rounding decides on the borders.
        growth = torch.log(distances.clamp(min=1).float() / num_exact)
        growth = growth / math.log(config.max_distance / num_exact) * (per_direction - num_exact)
        far = (num_exact + growth).long().clamp(max=per_direction - 1)
        return (offsets > 0) * per_direction + torch.where(distances < num_exact, distances, far)


class RelativePositionBias(nn.Module):
    """A learnt bias per head for each bucket of distances between key and query."""

    def __init__(self, config: RelativePositionConfig, *, num_heads: int) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.num_buckets, num_heads)

    def forward(self, num_frames: int) -> Tensor:
        """Bias (H, T, T), queries before keys, the last query first.

        It is a view of what there is for each offset, and takes no memory of its own.
        """
        # Tables of a few sizes serve every length.
        is_kept = not is_traced()
        reach = (1 << max(num_frames - 1, 1).bit_length()) - 1 if is_kept else num_frames - 1
        offset_buckets = _offset_buckets if is_kept else _offset_buckets.__wrapped__
        buckets = offset_buckets(reach, self.config)
        device = next((one.device for one in self.parameters()), buckets.device)
        buckets = buckets[reach - num_frames + 1 : reach + num_frames].to(device)
        by_offset: Tensor = self.table(buckets).t()
        # The last query sees the offsets from -(T - 1) to 0, each one before it one more.
        return _by_query(by_offset, num_frames)


def _by_query(by_offset: Tensor, num_frames: int) -> Tensor:
    """Rows (H, T, T) of values by offset (H, 2 T - 1): row r has those from r on."""
    if not is_traced():
        return by_offset.unfold(1, num_frames, 1)
    # The width of a view is a number, which the count of frames is not in a graph.
    frames = torch.arange(num_frames, device=by_offset.device)
    return by_offset[:, frames.unsqueeze(1) + frames]


class AlibiConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of linear biases of distance (ALiBi, arXiv:2108.12409) with learnt scales.

    Attributes:
        num_heads: Heads that have a bias, the first ones (`num_alibi_heads`); None for all.
        per_head: Whether each of them has a scale of its own (`learned_alibi_scale_per_head`).
        per_layer: Whether each layer has scales of its own (`learned_alibi_scale_per_layer`).
    """

    num_heads: int | None = None
    per_head: bool = True
    per_layer: bool = False

    def __post_init__(self) -> None:
        if self.num_heads is not None and self.num_heads < 1:
            raise ValueError(f"num_heads of ALiBi must be at least 1, but is {self.num_heads}")


@functools.lru_cache(maxsize=8)
def alibi_slopes(num_heads: int) -> tuple[float, ...]:
    """Slopes of the biases of heads: powers of 2^(-8 / H) for H heads, a power of two.

    Other numbers of heads have those of the next smaller power of two, and every second one of
    the next larger (arXiv:2108.12409, section 3 and its code).
    """
    closest = 1 << (num_heads.bit_length() - 1)
    start = 2.0 ** (-8.0 / closest)
    slopes = tuple(start**power for power in range(1, closest + 1))
    if closest == num_heads:
        return slopes
    return slopes + alibi_slopes(2 * closest)[::2][: num_heads - closest]


class Alibi(nn.Module):
    """Biases of attention scores that fall with the distance of key and query, in both directions.

    The scales are those of data2vec 2.0 (arXiv:2212.07525), in the shape of its files.
    """

    def __init__(self, config: AlibiConfig, *, num_layers: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.slopes = alibi_slopes(config.num_heads or num_heads)
        num_layers = num_layers if config.per_layer else 1
        num_scales = len(self.slopes) if config.per_head else 1
        self.scale = nn.Parameter(torch.ones(num_layers, 1, num_scales, 1, 1))

    def forward(self, num_frames: int, layer: int) -> Tensor:
        """Bias (H, T, T) of a layer, queries before keys, the last query first.

        It is a view of what there is for each offset, and takes no memory of its own.
        """
        scales = self.scale[layer if len(self.scale) > 1 else 0].clamp(min=0.0).flatten()
        scales = scales.to(torch.promote_types(scales.dtype, torch.float32))
        offsets = torch.arange(1 - num_frames, num_frames, device=scales.device)
        slopes = torch.tensor(self.slopes, dtype=scales.dtype, device=scales.device)
        by_offset = -(slopes * scales).unsqueeze(1) * offsets.abs()
        by_offset = F.pad(by_offset, (0, 0, 0, self.num_heads - len(self.slopes)))
        return _by_query(by_offset, num_frames)


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, 3.2), with a bias of distance in some models.

    WavLM gates the bias.
    """

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        dropout: float,
        has_bias: bool = True,
        has_key_bias: bool = True,
        has_out_bias: bool = True,
        has_gated_bias: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.has_gated_bias = has_gated_bias
        self.query = Linear(width, width, bias=has_bias)
        self.key = Linear(width, width, bias=has_bias and has_key_bias)
        self.value = Linear(width, width, bias=has_bias)
        self.out = Linear(width, width, bias=has_out_bias)
        if has_gated_bias:
            self.head_size = width // num_heads
            self.gate = Linear(self.head_size, NUM_GATES * GATE_INPUTS)
            self.gate_scale = nn.Parameter(torch.ones(1, num_heads, 1, 1))

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        bias: Tensor | None = None,
        num_queries: int | None = None,
    ) -> Tensor:
        """Output for the input `x`, both (B, T, D) in `layout`; each utterance attends to itself.

        `bias` (H, T, T), queries before keys and the last query first, is added to the scores,
        gated where there is a gate. With `num_queries` the output is (B, num_queries, D), of the
        first frames of a padded batch without `bias`.
        """
        query = self._heads(self.query(x[:, :num_queries]))
        key, value = (self._heads(projection(x)) for projection in (self.key, self.value))
        gates = self.gates(x) if bias is not None and self.has_gated_bias else None
        if layout.is_packed:
            context = self._attend_packed(query, key, value, layout, bias, gates)
        else:
            padding = layout.padding(x)
            seen = None if padding is None else ~padding[:, None, None, :]
            context = self.attend(query, key, value, seen, bias, gates)
        output: Tensor = self.out(context.transpose(1, 2).flatten(-2))
        return output

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        seen: Tensor | None,
        bias: Tensor | None = None,
        gates: Tensor | None = None,
    ) -> Tensor:
        """Contexts (B, H, T, D / H) of queries, keys and values of that shape.

        `seen` (B, 1, 1, T) is False on frames that are not attended to; `bias` is that of
        `forward`, and `gates` (B, H, T, 1) multiply it, where there are any.
        """
        drop = self.dropout if self.training else 0.0
        if bias is None:
            return attend(query, key, value, seen, drop)
        # Queries go in blocks, so that long batches fit: such a bias is as large as the scores.
        num_heads, num_frames, _ = bias.shape
        num_rows = 1 if seen is None and gates is None else query.shape[0]
        is_whole = is_traced()  # whose counts of frames are not numbers
        elements = num_rows * num_heads * num_frames
        block = num_frames if is_whole else max(MAX_BIAS_ELEMENTS // elements, 1)
        # One piece of memory for all of them: new pages take longer to come than to be filled.
        scratch = None
        if not (is_whole or torch.is_grad_enabled()):
            shape = (num_rows, num_heads, min(block, num_frames), num_frames)
            dtype = bias.dtype if gates is None else torch.promote_types(gates.dtype, bias.dtype)
            scratch = bias.new_empty(shape, dtype=dtype)
        contexts = []
        for start in (0,) if is_whole else range(0, num_frames, block):
            stop = min(start + block, num_frames)
            rows = slice(start, stop)
            # The bias has the last query first, so these of them are turned round and back.
            near = bias[:, num_frames - stop : num_frames - start].expand(num_rows, -1, -1, -1)
            factors = None if gates is None else gates[:, :, rows].flip(2)
            mask = _gated(near, factors, None if scratch is None else scratch[:, :, : stop - start])
            if seen is not None:
                mask = mask.masked_fill_(~seen, -torch.inf)
            turned = query[:, :, rows].flip(2)
            contexts.append(attend(turned, key, value, mask, drop).flip(2))
        return torch.cat(contexts, dim=2)

    def _attend_packed(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        bias: Tensor | None,
        gates: Tensor | None,
    ) -> Tensor:
        """As `attend`, of packed utterances."""
        if bias is None:
            return attend_packed(query, key, value, layout, self.dropout if self.training else 0.0)
        contexts = []
        for one in layout.slices:
            length = one.stop - one.start
            near = bias[:, bias.shape[1] - length :, :length]
            own = query[:, :, one], key[:, :, one], value[:, :, one]
            own_gates = None if gates is None else gates[:, :, one]
            contexts.append(self.attend(*own, None, near, own_gates))
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)

    def gates(self, inputs: Tensor, heads: slice = slice(None)) -> Tensor:
        """Gates of the bias (B, H, T, 1), from the attention's input (B, T, D).

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


def _gated(bias: Tensor, gates: Tensor | None, place: Tensor | None) -> Tensor:
    """A bias (B, H, N, T) times gates (B, H, N, 1), if there are any, in memory of its own.

    It is written into `place`, where that is given.
    """
    if gates is not None:
        return gates * bias if place is None else torch.mul(gates, bias, out=place)
    if place is None:
        return bias.clone(memory_format=torch.contiguous_format)
    return place.copy_(bias)
