"""Convolutions that round alike alone and in a batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

LONE_KERNEL_ELEMENTS = 20_480
"""Up to this size torch gives a single row on the CPU to another kernel than a batch."""


def convolve(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """`conv` of `x` (B, C, T), where B of 1 goes through the kernel that a batch goes through.

    It is computed in the type of `x`, whatever that of the weights is, and pads with zeros.
    The two kernels add up in different orders. Where a filter cancels a loud tone, or a gate
    takes large values, what they differ by is no longer small beside the output.
    """
    is_lone = x.shape[0] == 1 and x.device.type == "cpu" and x.numel() <= LONE_KERNEL_ELEMENTS
    rows = x.expand(2, -1, -1) if is_lone else x
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    output = F.conv1d(rows, conv.weight.to(x.dtype), bias, conv.stride, conv.padding)
    return output[:1] if is_lone else output
