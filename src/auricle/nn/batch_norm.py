"""Batch norm that counts true frames alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.errors import AudioError
from auricle.nn.batch import Lengths, as_ints
from auricle.nn.cpu.policy import joins_frames


def check_variance(num_frames: int) -> None:
    """Raise AudioError unless batch norm can be trained by so many true frames of a batch."""
    if num_frames < 2:
        raise AudioError(
            "the waveforms of this batch give one frame in all, and in train mode batch norm needs "
            "the variance of two at least: train on longer waveforms or on more at once, or call "
            "encoder.eval()"
        )


def over_true_frames(norm: nn.Module, x: Tensor, num_frames: Lengths) -> Tensor:
    """Output (B, C, T) of a batch norm for `x` (B, C, T) with true lengths `num_frames`.

    A norm of torch's in the place of the library's own, such as `SyncBatchNorm`, sees in training
    one row (1, C, N) of the true frames.
    """
    if isinstance(norm, BatchNorm) or not isinstance(norm, nn.modules.batchnorm._NormBase):
        normed: Tensor = norm(x, num_frames)
        return normed
    return _joined(norm, x, num_frames) if norm.training else norm(x)


def _joined(norm: Callable[[Tensor], Tensor], x: Tensor, num_frames: Lengths) -> Tensor:
    """What `norm` makes of the true frames of all rows together; past their ends zeros."""
    length, counts = x.shape[2], as_ints(num_frames)
    if all(count == length for count in counts):
        return norm(x)
    # Slices of rows, not a mask: the gradient of indexing by a mask is slow.
    true = torch.cat([row[:, :count] for row, count in zip(x, counts, strict=True)], dim=1)
    normed = norm(true.unsqueeze(0)).squeeze(0)
    rows = torch.split(normed, counts, dim=1)
    return torch.stack([F.pad(row, (0, length - row.shape[1])) for row in rows])


class BatchNorm(nn.BatchNorm1d):
    """Batch norm over the true frames of a padded batch.

    In training, mean and variance are those of the true frames of all utterances together, and so
    are the running statistics that evaluation uses: padding changes neither.
    """

    def forward(self, x: Tensor, num_frames: Lengths) -> Tensor:  # type: ignore[override]
        """Output (B, C, T) for the input `x` (B, C, T) with true lengths `num_frames`.

        What it holds past the true ends is finite, nothing more.

        Raises:
            AudioError: In training, the batch has one true frame alone.
        """
        if not self.training and joins_frames(x):
            return self._by_running_statistics(x)
        if not self.training:
            return super().forward(x)
        check_variance(sum(as_ints(num_frames)))
        return _joined(super().forward, x, num_frames)

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
