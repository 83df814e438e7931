"""Batch norm that counts true frames alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.nn.packed import infers_on_cpu


class BatchNorm(nn.BatchNorm1d):
    """Batch norm over the true frames of a padded batch.

    In training, mean and variance are those of the true frames of all utterances together, and so
    are the running statistics that evaluation uses: padding changes neither.
    """

    def forward(self, x: Tensor, num_frames: Sequence[int]) -> Tensor:  # type: ignore[override]
        """Output (B, C, T) for the input `x` (B, C, T) with true lengths `num_frames`.

        What it holds past the true ends is finite, nothing more.

        Raises:
            ValueError: In training, the batch has one true frame alone.
        """
        if not self.training and infers_on_cpu(x):
            return self._by_running_statistics(x)
        length = x.shape[2]
        if not self.training or all(count == length for count in num_frames):
            return super().forward(x)
        # Slices of rows, not a mask: the gradient of indexing by a mask is slow.
        true = torch.cat([row[:, :count] for row, count in zip(x, num_frames, strict=True)], dim=1)
        normed = super().forward(true.unsqueeze(0)).squeeze(0)
        rows = torch.split(normed, list(num_frames), dim=1)
        return torch.stack([F.pad(row, (0, length - row.shape[1])) for row in rows])

    def _by_running_statistics(self, x: Tensor) -> Tensor:
        """As in evaluation, in one pass whatever the layout of `x` is."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = (self.running_var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        return torch.addcmul(shift.unsqueeze(1), x, scale.unsqueeze(1))
