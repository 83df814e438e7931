"""Parts of layers of every kind: activation functions, limits of depth, layers left out of a step.

Also the norm at the end of an encoder, and parameters beyond what an output needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import FinalNorm
from auricle.nn.cpu.policy import is_plain_tensor, is_traced, runs_on_cpu

Activation = Literal["gelu", "relu", "swish", "tanh"]

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
    "tanh": torch.tanh,
}
"""GELU is the exact one (erf); swish is x * sigmoid(x)."""


WaveformActivation = Literal["gelu", "gelu_tanh", "relu", "swish", "tanh", "linear"]

FfnActivation = Literal[WaveformActivation, "swiglu"]
"""`swiglu` multiplies one half of its input by swish of the other (arXiv:2002.05202)."""

WAVEFORM_ACTIVATIONS: dict[WaveformActivation, Callable[[Tensor], Tensor]] = {
    "gelu": ACTIVATIONS["gelu"],
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": ACTIVATIONS["relu"],
    "swish": ACTIVATIONS["swish"],
    "tanh": ACTIVATIONS["tanh"],
    "linear": nn.Identity(),
}
"""`gelu_tanh` approximates GELU by a tanh (Hendrycks & Gimpel, arXiv:1606.08415)."""


MASK_BITS = 16
MASKS_PER_DRAW = 4
"""Bits that decide on one value in dropout on the CPU, and values that a draw of 64 bits serves."""


def dropout(x: Tensor, probability: float, is_training: bool) -> Tensor:
    """As `F.dropout`, in a third of its time on the CPU and with a quarter of its mask's memory.

    There the probability is rounded to a multiple of 2^-16, and what is kept is scaled by that.
    Masks come from torch's own generator.
    """
    if not is_training or probability == 0.0:
        return x
    num_kept = round((1.0 - probability) * (1 << MASK_BITS))
    if not runs_on_cpu(x) or is_traced() or not 0 < num_kept < 1 << MASK_BITS:
        return F.dropout(x, probability, is_training)
    # torch does not type autograd functions.
    dropped: Tensor = _Dropout.apply(x, num_kept)  # type: ignore[no-untyped-call]
    return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, num_kept: int) -> Tensor:
        num_draws = -(-x.numel() // MASKS_PER_DRAW)
        drawn = torch.empty(num_draws, dtype=torch.int64).random_(-(1 << 63), None)
        drawn = drawn.view(torch.int16)[: x.numel()].view(x.shape)
        mask = (drawn < num_kept - (1 << (MASK_BITS - 1))).view(torch.uint8)
        ctx.save_for_backward(mask)
        ctx.scale = (1 << MASK_BITS) / num_kept
        # torch multiplies by numbers faster than by truth values.
        return mask.to(x.dtype).mul_(x).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return mask.to(grad.dtype) * grad * ctx.scale, None


def attend_dropping(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, probability: float
) -> Tensor:
    """Attention with dropout of weights, for which the CPU has no kernel of its own.

    Shapes and `mask` are as `scaled_dot_product_attention` takes them.
    """
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
    if mask is not None:
        is_seen = mask.dtype == torch.bool
        scores = scores.masked_fill(~mask, -torch.inf) if is_seen else scores + mask
    return dropout(scores.softmax(-1), probability, True) @ value


MAX_DEPTH = 1_000
"""Far above any published encoder; a damaged config must not build modules for hours."""


def check_depth(num_layers: int) -> None:
    """Raise ValueError unless a stack of `num_layers` layers can be meant."""
    if not 1 <= num_layers <= MAX_DEPTH:
        raise ValueError(
            f"an encoder must have at least 1 and at most {MAX_DEPTH} layers, but has {num_layers}"
        )


def normed_states(final_norm: FinalNorm, num_layers: int) -> list[bool]:
    """True for each state of a stack, its input first, that the norm after it is applied to."""
    return [final_norm == "each"] * num_layers + [final_norm != "strip"]


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


def reaching(x: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    """`x`, from which a backward pass comes to all of these parameters, where processes train.

    `DistributedDataParallel` waits for every parameter of a module. What a layer does not use (a
    quantiser, deeper layers, one that is left out by chance) would keep it waiting, unless it
    searches the graph for such parameters at each step. They get no gradient from here.
    """
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not is_distributed or not x.requires_grad or is_traced():
        return x
    learnt = [one for one in parameters if one.requires_grad and is_plain_tensor(one)]
    # torch does not type autograd functions.
    reached: Tensor = _Reaching.apply(x, *learnt)  # type: ignore[no-untyped-call]
    return reached


class _Reaching(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.num_parameters = len(parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad, *[None] * ctx.num_parameters
