"""Is every sample a number?"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def non_finite_reason(samples: Tensor) -> str | None:
    """Say how many samples of (S,) are NaN or infinite and where the first one is; None if none."""
    values = samples.detach()
    # A sum is NaN or infinite if any term is: one cheap pass, and the look at each sample only
    # where the sum is odd, which also happens when huge numbers overflow it.
    if math.isfinite(values.sum().item()):
        return None
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad) == 0:
        return None
    return (
        f"{len(bad)} of {len(values)} samples are NaN or infinite as float32, the first at sample "
        f"{int(bad[0])}: repair or leave out the recording"
    )
