"""Long padded batches cut into stretches of frames, each with the input around it that it sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from auricle.geometry import FrameGeometry
from auricle.nn.chunks import chunks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
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
        """The part (rows, C, inputs) of the whole input `x` (B, C, S); a view where it can be."""
        part = x[:, :, self.inputs]
        return part if len(self.rows) == len(x) else part[self.rows]

    def own(self, y: Tensor, hop: int) -> Tensor:
        """What belongs to these frames of all that a layer gives for the part, (rows, D, frames).

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


def cuts(
    lengths: Sequence[int],
    geometry: FrameGeometry,
    bytes_per_frame: int,
    modules: Iterable[nn.Module],
    *,
    min_frames: int = 1,
) -> list[Cut]:
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
    stretches = chunks(num_frames, bytes_per_frame, modules)
    if stretches[0].stop < min(min_frames, num_frames):
        starts = range(0, num_frames, min_frames)
        stretches = [slice(start, min(start + min_frames, num_frames)) for start in starts]
    # Where a window reaches past an end, padding by reflection looks one frame further than it.
    spare = sum(1 for window in geometry.windows if window.pad_left or window.pad_right)
    before = spare - geometry.start_samples // hop
    after = max(geometry.start_samples + geometry.window_samples, 0) + spare * hop
    result = []
    for frames in stretches:
        is_last = frames.stop == num_frames
        first = max(frames.start - before, 0) * hop
        end = num_inputs if is_last else min(frames.stop * hop + after, num_inputs)
        rows = [row for row, length in enumerate(lengths) if length > frames.start * hop]
        result.append(
            Cut(
                frames=frames,
                inputs=slice(first, end),
                hop=hop,
                is_last=is_last,
                rows=rows,
                lengths=[min(lengths[row], end) - first for row in rows],
            )
        )
    return result
