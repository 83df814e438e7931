"""Long sequences in chunks, so that memory stays bounded, with a halo where frames need one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from auricle.geometry import FrameGeometry
from auricle.nn.cpu.policy import is_traced, may_bypass

MAX_CHUNK_BYTES = 64 << 20
"""Largest intermediate value of a chunk."""


def chunks(num_frames: int, bytes_per_frame: int, modules: Iterable[nn.Module]) -> list[slice]:
    """Chunks of a sequence in order, each small enough to be computed at once.

    Where gradients are recorded there is one chunk, for autograd keeps all of them anyway; and
    where a module has to see the whole of it.

    Args:
        num_frames: Length of the sequence.
        bytes_per_frame: Of the largest intermediate value, over the whole batch.
        modules: What is called on each chunk.
    """
    if torch.is_grad_enabled() or is_traced():
        return [slice(0, num_frames)]
    size = max(1, MAX_CHUNK_BYTES // max(1, bytes_per_frame))
    if num_frames <= size or not may_bypass(*modules):
        return [slice(0, num_frames)]
    return split(num_frames, size)


def split(num_frames: int, size: int) -> list[slice]:
    """Chunks of `size` frames in order, the last one perhaps of fewer."""
    return [slice(start, min(start + size, num_frames)) for start in range(0, num_frames, size)]


def map_chunks(
    body: Callable[[slice], Tensor],
    num_frames: int,
    bytes_per_frame: int,
    modules: Iterable[nn.Module],
) -> Tensor:
    """Map `body` over chunks of a sequence and join its outputs to one (B, T, D).

    Args:
        body: Takes the frames' slice.
        num_frames: Length of the sequence.
        bytes_per_frame: As `chunks` takes it.
        modules: Those that `body` calls.
    """
    first, *others = chunks(num_frames, bytes_per_frame, modules)
    piece = body(first)
    if not others:
        return piece
    output = piece.new_empty(piece.shape[0], num_frames, *piece.shape[2:])
    output[:, first] = piece
    for chunk in others:
        output[:, chunk] = body(chunk)
    return output


@dataclasses.dataclass(frozen=True, kw_only=True)
class HaloChunk:
    """Frames of a padded batch, and the part of its input that they are computed from.

    Sliding windows over that part give these frames as they do over the whole, padding at the true
    ends included. Frames beside them that see the part's own ends are wrong: `own` leaves them out.

    Attributes:
        frames: Which frames.
        inputs: Which inputs; the first is a multiple of the hop, so that frames stay in step.
        hop: Inputs from one frame to the next.
        is_last: Whether no frames follow.
        rows: Utterances that reach as far as these frames.
        lengths: True inputs of each of those within the part.
    """

    frames: slice
    inputs: slice
    hop: int
    is_last: bool
    rows: list[int]
    lengths: list[int]

    def of(self, x: Tensor) -> Tensor:
        """The part (rows, C, inputs, ...) of `x` (B, C, S, ...); a view where it can be."""
        part = x[:, :, self.inputs]
        return part if len(self.rows) == len(x) else part[self.rows]

    def own(self, y: Tensor, hop: int) -> Tensor:
        """Crop a layer's output for the part to these frames: (rows, D, frames, ...).

        Of a layer that is `hop` inputs from frame to frame, and so may run at a higher rate.
        """
        offset = self.inputs.start // hop
        stop = None if self.is_last else self.frames.stop * (self.hop // hop) - offset
        return y[:, :, self.first(hop) - offset : stop]

    def first(self, hop: int) -> int:
        """The first frame of that layer that `own` gives, counted in the whole sequence."""
        return int(self.frames.start) * (self.hop // hop)

    def write(self, output: Tensor, own: Tensor, hop: int) -> None:
        """Put what `own` gave into its place in the layer's whole output (B, D, T)."""
        first = self.first(hop)
        place = output[:, :, first : first + own.shape[2]]
        if len(self.rows) == len(output):
            place.copy_(own)
        else:
            place[self.rows] = own.to(output.dtype)


def halo_chunks(
    lengths: Sequence[int],
    geometry: FrameGeometry,
    bytes_per_frame: int,
    modules: Iterable[nn.Module],
    *,
    min_frames: int = 1,
) -> list[HaloChunk]:
    """Cuts that follow each other and give all frames of a padded batch, few enough at a time.

    Args:
        lengths: True inputs of each utterance; the largest is the width of the batch.
        geometry: How frames slide over inputs.
        bytes_per_frame: As `chunks` takes it.
        modules: What is called on each cut.
        min_frames: Frames of the first cut at least.
    """
    hop, num_inputs = geometry.hop_samples, max(lengths)
    num_frames = geometry.num_frames(num_inputs)
    parts = chunks(num_frames, bytes_per_frame, modules)
    if parts[0].stop < min(min_frames, num_frames):
        starts = range(0, num_frames, min_frames)
        parts = [slice(start, min(start + min_frames, num_frames)) for start in starts]
    # Where a window reaches past an end, padding by reflection looks one frame further than it.
    spare = sum(1 for window in geometry.windows if window.pad_left or window.pad_right)
    before = spare - geometry.start_samples // hop
    after = max(geometry.start_samples + geometry.window_samples, 0) + spare * hop
    result = []
    for frames in parts:
        is_last = frames.stop == num_frames
        first = max(frames.start - before, 0) * hop
        end = num_inputs if is_last else min(frames.stop * hop + after, num_inputs)
        rows = [row for row, length in enumerate(lengths) if length > frames.start * hop]
        result.append(
            HaloChunk(
                frames=frames,
                inputs=slice(first, end),
                hop=hop,
                is_last=is_last,
                rows=rows,
                lengths=[min(lengths[row], end) - first for row in rows],
            )
        )
    return result
