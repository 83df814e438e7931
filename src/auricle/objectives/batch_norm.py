"""Batch norm in training over the true frames of a padded batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def norm_of_true_frames(norm: nn.Module, x: Tensor, padding: Tensor | None) -> Tensor:
    """`norm` of `x` (B, C, T) over its true frames alone, zeros on the others.

    `padding` (B, T) is True on frames past an utterance's end, None where there are none. The
    statistics that `norm` takes of a batch then never see padding.
    """
    if padding is None:
        output: Tensor = norm(x)
        return output
    frames = x.transpose(1, 2)
    is_true = ~padding
    normed = norm(frames[is_true])
    result = torch.zeros_like(frames, dtype=normed.dtype)
    return result.masked_scatter(is_true.unsqueeze(-1), normed).transpose(1, 2)
