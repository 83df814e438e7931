"""Norm over the channels of each frame, as Modified CPC has it (arXiv:2002.02848, section 3.1)."""

from __future__ import annotations

import torch
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
        variance, mean = torch.var_mean(values, dim=1, correction=1, keepdim=True)
        normed = (values - mean) * torch.rsqrt(variance + EPS)
        return (normed * self.weight + self.bias).to(x.dtype)
