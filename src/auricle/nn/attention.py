"""Attention by torch's kernels, in the type that is fastest on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Contexts (B, H, T, D) of queries, keys and values (Vaswani et al. 2017, equation 1).

    `mask` is boolean, True where a key is seen, or added to the scores; `dropout` the probability
    with which weights of values are left out. The CPU's kernel for float32 is faster than that for
    half the bits, and more precise.
    """
    is_half = query.device.type == "cpu" and query.dtype in (torch.bfloat16, torch.float16)
    if not is_half:
        return F.scaled_dot_product_attention(query, key, value, mask, dropout)
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    wide = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), mask, dropout)
    return wide.to(query.dtype)
