"""Utterances of a batch one behind the other, so that nothing is computed for padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from auricle.nn.padding import pad_frames


class Packing:
    """Where the utterances of a batch lie in one row of frames.

    Attributes:
        lengths: Frames of each utterance, in order.
        slices: Where each lies.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        ends = [*accumulate(self.lengths)]
        self.slices = [
            slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True)
        ]
        self._boundaries: Tensor | None = None

    def pack(self, x: Tensor) -> Tensor:
        """One row (1, N, D) of the true frames of `x` (B, T, D); a view where all are true."""
        if min(self.lengths) == x.shape[1]:
            return x.reshape(1, -1, x.shape[2])
        rows = [row[:length] for row, length in zip(x, self.lengths, strict=True)]
        return torch.cat(rows).unsqueeze(0)

    def unpack(self, x: Tensor) -> Tensor:
        """A row (B, T, D) for each utterance of the row `x` (1, N, D), zeros past its end."""
        longest = max(self.lengths)
        if min(self.lengths) == longest:
            return x.view(len(self.lengths), longest, x.shape[2])
        return pad_frames([x[0, one] for one in self.slices])

    def boundaries(self, device: torch.device) -> Tensor:
        """Where each utterance begins and the last one ends (B + 1,), int32."""
        if self._boundaries is None or self._boundaries.device != device:
            ends = [0, *accumulate(self.lengths)]
            self._boundaries = torch.tensor(ends, dtype=torch.int32, device=device)
        return self._boundaries
