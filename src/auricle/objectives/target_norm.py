"""Targets of zero mean and unit variance by statistics of all frames seen so far."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_DEVIATION = 1e-4
"""A dimension that varies less is not blown up."""


class RunningNorm(nn.Module):
    """Standardises frames by mean and deviation of all that training has shown it.

    Statistics of a corpus, taken as it is read instead of beforehand. They are merged batch by
    batch (Chan et al., Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
    1979) and saved with the weights.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Standardised frames (..., dim), float32; in training they count first."""
        x = x.float()
        if self.training:
            self._update(x.reshape(-1, x.shape[-1]))
        return (x - self.mean) / self.variance.sqrt().clamp(min=MIN_DEVIATION)

    def _update(self, x: Tensor) -> None:
        """Let frames (N, dim) count."""
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        share = len(x) / (self.count + len(x))
        shift = mean - self.mean
        between = shift.square() * (share * (1 - share))
        self.variance.lerp_(variance, share).add_(between)
        self.mean.add_(shift * share)
        self.count += len(x)
