"""Values of a long sequence computed a stretch at a time and joined without a second copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from auricle.nn.chunks import chunks


def by_stretches(
    body: Callable[[slice], Tensor],
    num_frames: int,
    bytes_per_frame: int,
    modules: Iterable[nn.Module],
) -> Tensor:
    """What `body` gives for each stretch, (B, its frames, D), as one (B, T, D).

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
    for stretch in others:
        output[:, stretch] = body(stretch)
    return output
