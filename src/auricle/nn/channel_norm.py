"""Norm over the channels of each frame, as Modified CPC has it (arXiv:2002.02848, section 3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5
"""What the reference implementation adds to the variance."""


class ChannelNorm(nn.Module):
    """Norm over the channels of each frame, with unbiased variance, then scale and shift."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, num_channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, num_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, C, T), in the type of `x`, for the input `x` (B, C, T)."""
        values = x if x.dtype == torch.float64 else x.float()
        num_channels = x.shape[1]
        # Layer norm divides by the biased variance; this makes up for it, epsilon included.
        share = (num_channels - 1) / num_channels
        normed = F.layer_norm(
            values.transpose(1, 2),
            (num_channels,),
            self.weight.flatten().to(values.dtype) * math.sqrt(share),
            self.bias.flatten().to(values.dtype),
            EPS * share,
        )
        return normed.transpose(1, 2).to(x.dtype)
