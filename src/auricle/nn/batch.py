"""Batches of utterances of different lengths: padded (B, T, D) or packed (1, N, D)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from auricle.errors import AudioError
from auricle.info import FrameGeometry

Lengths: TypeAlias = Sequence[int] | Tensor
"""Valid samples or frames of each utterance: ints where Python knows them, else int64 (B,).

A tensor stays on its device: code for padded batches takes masks and counts from it by tensor
arithmetic, so that a compiler or an exporter sees one graph for all lengths.
"""

LENGTH_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
"""Types that a tensor of lengths may have."""


def as_ints(lengths: Lengths) -> list[int]:
    """Lengths as Python ints; those of a tensor are read from its device."""
    return lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)


def as_tensor(lengths: Lengths, device: torch.device) -> Tensor:
    """Lengths as a tensor (B,), int64."""
    return torch.as_tensor(lengths, dtype=torch.int64, device=device)


def frames_of(geometry: FrameGeometry, lengths: Lengths) -> Lengths:
    """Frames that the sliding windows of `geometry` give of each utterance."""
    if isinstance(lengths, Tensor):
        return geometry.num_frames(lengths)
    return [geometry.num_frames(length) for length in lengths]


def padding_mask(lengths: Lengths, max_length: int, device: torch.device) -> Tensor | None:
    """Boolean (B, T) mask that is True on padding; None where the lengths are ints without any."""
    if not isinstance(lengths, Tensor) and all(length == max_length for length in lengths):
        return None
    positions = torch.arange(max_length, device=device)
    return positions >= as_tensor(lengths, device).unsqueeze(1)


def zero_padding(x: Tensor, mask: Tensor | None, *, time_dim: int) -> Tensor:
    """`x` with zeros where `mask` (B, T) is True; `time_dim` is the axis of `x` that holds T."""
    if mask is None:
        return x
    for dim in range(1, x.dim()):
        if dim != time_dim:
            mask = mask.unsqueeze(dim)
    return x.masked_fill(mask, 0.0)


def checked_padded(
    waveforms: object, lengths: object, limits: tuple[int, int | None] | None
) -> tuple[Tensor, Tensor]:
    """A padded batch of waveforms, float32, and its lengths, int64, each on its device.

    Args:
        waveforms: (B, S), floating point.
        lengths: (B,), integers.
        limits: The shortest and the longest length of the encoder, None without a longest; None
            to look at no length.

    Raises:
        AudioError: Shapes, types or lengths are others.
    """
    if not isinstance(waveforms, Tensor) or not isinstance(lengths, Tensor):
        kinds = f"{type(waveforms).__name__} and {type(lengths).__name__}"
        raise AudioError(f"waveforms and lengths must be tensors, but are {kinds}")
    is_dense = waveforms.layout == torch.strided
    if waveforms.dim() != 2 or not waveforms.is_floating_point() or not is_dense:
        raise AudioError(
            "waveforms must be a dense floating-point tensor (B, S), but are "
            f"{tuple(waveforms.shape)}, {waveforms.dtype}, {waveforms.layout}"
        )
    if lengths.shape != waveforms.shape[:1] or lengths.dtype not in LENGTH_TYPES:
        raise AudioError(
            f"lengths must be an integer tensor ({waveforms.shape[0]},), one for each row of "
            f"waveforms, but are {tuple(lengths.shape)}, {lengths.dtype}"
        )
    if limits is not None:
        shortest, longest = limits[0], min(waveforms.shape[1], limits[1] or waveforms.shape[1])
        for index, length in enumerate(lengths.tolist()):
            if not shortest <= length <= longest:
                raise AudioError(
                    f"lengths must be at least {shortest} (the encoder's minimum) and at most "
                    f"{longest} (of waveforms, or its own), but lengths[{index}] is {length}: pad "
                    "shorter waveforms with zeros, or leave them out; cut longer ones"
                )
    return waveforms.float(), lengths.long()


def pad_rows(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows (T, ...) into (B, T, ...), zeros after their ends; a single one is not copied."""
    if len(rows) == 1:
        return rows[0].unsqueeze(0)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def length_groups(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of utterances in batches of at most `budget` samples or frames, padding included.

    All in one batch keep their order. Else the longest come first, so that utterances of like
    length share a batch; one that is longer than the budget is alone.
    """
    order = list(range(len(lengths)))
    if len(lengths) * max(lengths) <= budget:
        return [order]
    groups: list[list[int]] = []
    for index in sorted(order, key=lambda index: -lengths[index]):
        if not groups or (len(groups[-1]) + 1) * lengths[groups[-1][0]] > budget:
            groups.append([])
        groups[-1].append(index)
    return groups


class Layout:
    """Lengths of the utterances of a batch, and whether they lie padded or packed.

    Modules take it beside their tensor, so that hooks on them see tensors.

    Attributes:
        lengths: Valid frames of each utterance; ints where the batch is packed.
        is_packed: Whether one row (1, N, D) holds the valid frames of all utterances, in order.
    """

    def __init__(self, lengths: Lengths, *, is_packed: bool = False) -> None:
        assert not (is_packed and isinstance(lengths, Tensor))
        self.lengths = lengths
        self.is_packed = is_packed
        self._mask: tuple[int, Tensor | None] | None = None
        self._boundaries: Tensor | None = None

    def padding(self, x: Tensor) -> Tensor | None:
        """The padding mask (B, T) of a padded `x` (B, T, D), made once; see `padding_mask`."""
        size = x.shape[1]
        if self._mask is None or self._mask[0] != size:
            self._mask = size, padding_mask(self.lengths, size, x.device)
        return self._mask[1]

    @property
    def slices(self) -> list[slice]:
        """Slices of the utterances in the row of a packed batch."""
        lengths = as_ints(self.lengths)
        ends = accumulate(lengths)
        return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]

    def boundaries(self, device: torch.device) -> Tensor:
        """Start of each packed utterance and end of the last one (B + 1,), int32, made once."""
        if self._boundaries is None or self._boundaries.device != device:
            ends = [0, *accumulate(as_ints(self.lengths))]
            self._boundaries = torch.tensor(ends, dtype=torch.int32, device=device)
        return self._boundaries

    def pack(self, x: Tensor) -> Tensor:
        """The row (1, N, D) of a padded `x` (B, T, D); a view where there is no padding."""
        lengths = as_ints(self.lengths)
        if min(lengths) == x.shape[1]:
            return x.reshape(1, -1, x.shape[2])
        rows = [row[:length] for row, length in zip(x, lengths, strict=True)]
        return torch.cat(rows).unsqueeze(0)

    def rows(self, x: Tensor) -> list[Tensor]:
        """Valid frames (T, ...) of each utterance of `x` in this layout, as views."""
        if self.is_packed:
            return [x[0, one] for one in self.slices]
        return [row[:length] for row, length in zip(x, as_ints(self.lengths), strict=True)]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Waveforms, frames or codes of several utterances.

    Attributes:
        values: Padded (B, S) or (B, T, D), which may hold anything after an utterance's end unless
            a function says more; or packed (1, N, D).
        layout: Their lengths, and which of both it is.
    """

    values: Tensor
    layout: Layout

    @classmethod
    def padded(cls, values: Tensor, lengths: Lengths) -> Batch:
        """A padded batch of these lengths."""
        return cls(values, Layout(lengths))

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> Batch:
        """A padded batch of rows (T, ...), zeros after their ends; always a copy."""
        values = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        return cls(values, Layout([len(row) for row in rows]))

    @property
    def lengths(self) -> Lengths:
        """Valid samples or frames of each utterance."""
        return self.layout.lengths

    def rows(self) -> list[Tensor]:
        """Values (T, ...) of each utterance, as views; nothing is copied."""
        return self.layout.rows(self.values)

    def to_padded(self) -> Batch:
        """The same as a padded batch, zeros after the ends of utterances that were packed."""
        if not self.layout.is_packed:
            return self
        return Batch.padded(pad_rows(self.rows()), self.lengths)
