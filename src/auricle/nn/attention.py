"""Attention by torch's kernels, in the type that is fastest on the device."""

from __future__ import annotations

import functools
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.nn.batch import Layout, as_ints
from auricle.nn.cpu.policy import runs_on_cpu

VARLEN_TOLERANCES = {torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""Types of the kernel for packed utterances, and how far the check lets it be from float64."""


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Contexts (B, H, T, D) of queries, keys and values (Vaswani et al. 2017, equation 1).

    `mask` is boolean, True where a key is seen, or added to the scores; `dropout` the probability
    with which weights of values are left out. The CPU's kernel for float32 is faster than that for
    half the bits, and more precise.
    """
    is_half = runs_on_cpu(query) and query.dtype in (torch.bfloat16, torch.float16)
    if not is_half:
        return F.scaled_dot_product_attention(query, key, value, mask, dropout)
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    wide = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), mask, dropout)
    return wide.to(query.dtype)


def attend_packed(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """Contexts (1, H, N, D) of packed utterances, each of which attends to itself alone.

    On GPUs that have it, flash attention of variable length takes all of them at once (Dao,
    arXiv:2307.08691), in half the bits of float32; without it they go one after the other.
    """
    if len(layout.lengths) > 1 and _has_varlen(query):
        return _varlen(query, key, value, layout)
    contexts = [attend(query[:, :, one], key[:, :, one], value[:, :, one]) for one in layout.slices]
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
    """Whether the kernel is there and gives what it should for heads of this width."""
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
