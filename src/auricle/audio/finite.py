"""Is every sample a number, and how large is the largest?"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def peak_of(samples: Tensor) -> float:
    """The largest absolute value of (S,), S > 0; NaN or infinite where a sample is."""
    lowest, highest = torch.aminmax(samples.detach())
    return max(highest.item(), -lowest.item())


def non_finite_reason(samples: Tensor, peak: float | None = None) -> str | None:
    """Say how many samples of (S,) are NaN or infinite and where the first one is; None if none.

    The `peak` is that of the samples, where it is known already.
    """
    values = samples.detach()
    if math.isfinite(peak_of(values) if peak is None else peak):
        return None
    bad = (~torch.isfinite(values)).nonzero()
    return (
        f"{len(bad)} of {len(values)} samples are NaN or infinite as float32, the first at sample "
        f"{int(bad[0])}: repair or leave out the recording"
    )
