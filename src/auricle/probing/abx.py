"""ABX error of representations: X and A are one phone, B is another; is X nearer to B than to A?

Schatz et al., "Evaluating speech features with the minimal-pair ABX task", Interspeech 2013, with
the distances and means of ZeroSpeech 2021 (arXiv:2011.11588, section 3.1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auricle.errors import AuricleError

DISTANCES = ("angular", "euclidean")

MAX_GROUP, MAX_SPEAKERS = 10, 5
"""Most items of one phone, context and speaker; most speakers of X for an A: as ZeroSpeech 2021."""

MAX_DISTANCES = 2**23
"""Distances between frames in memory at a time: 64 MiB as integers."""

DISTANCE_LEVELS = 2**30
"""Integers that distances are rounded to; paths of 2**18 steps have sums below `NO_PATH`."""

LENGTH_BITS = 14
"""Bits of the length of a path: those of two items of at most 8,192 frames, 82 s at 10 ms."""

NO_PATH = 2**62

MAX_CELLS_OF_DIAGONAL = 2**15
"""Cells of one anti-diagonal, over all pairs of a batch, that the cache of a core holds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbxItems:
    """Frames of a layer and the items in them.

    Attributes:
        frames: (F, D).
        starts: (N,), the first frame of each item.
        lengths: (N,), its number of frames, at least 1.
        phones: (N,), and `contexts` and `speakers` likewise: integers that tell labels apart.
    """

    frames: Tensor
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    phones: NDArray[np.int64]
    contexts: NDArray[np.int64]
    speakers: NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbxScore:
    """Error rate from 0 to 1, None without a cell, and the number of cells that it is a mean of."""

    error: float | None
    num_cells: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbxScores:
    """Scores within speakers, where X is of the speaker of A and B, and across, where it is not."""

    within: AbxScore
    across: AbxScore


def dtw(
    distances: Tensor,
    firsts: NDArray[np.int64],
    strides: NDArray[np.int64],
    num_rows: NDArray[np.int64],
    num_columns: NDArray[np.int64],
) -> Tensor:
    """Cost (P,) of the cheapest alignment of each of P pairs, divided by the length of its path.

    A path has steps (1, 1), (1, 0) and (0, 1) from the first cell to the last, which both count.
    Of several cheapest paths the shortest one counts. Distances are rounded to 2**-30 of the
    largest one; sums of them are exact.

    Args:
        distances: (C,), the matrices of all pairs, which may overlap.
        firsts: (P,), place of the first cell of each pair's matrix.
        strides: (P,), places from one of its rows to the next.
        num_rows: (P,), and `num_columns` likewise: its size.
    """
    scale = DISTANCE_LEVELS / max(float(distances.max()), torch.finfo(torch.float32).tiny)
    # Sum and length of a path in one integer: one minimum compares both.
    steps = ((distances.double() * scale).round_().long() << LENGTH_BITS) + 1
    order = np.lexsort((num_columns, num_rows))
    paths = torch.empty(len(order), dtype=torch.int64)
    start = 0
    while start < len(order):
        size = max(1, MAX_CELLS_OF_DIAGONAL // int(num_rows[order[start]]))
        part = order[start : start + size]
        part = part[np.argsort(-(num_rows[part] + num_columns[part]), kind="stable")]
        sizes = (torch.from_numpy(x[part]) for x in (firsts, strides, num_rows, num_columns))
        paths[torch.from_numpy(part)] = _align(steps, *sizes)
        start += size
    sums, lengths = (paths >> LENGTH_BITS).double() / scale, paths & (2**LENGTH_BITS - 1)
    return torch.div(sums, lengths)


def _align(
    steps: Tensor, firsts: Tensor, strides: Tensor, num_rows: Tensor, num_columns: Tensor
) -> Tensor:
    """Cheapest paths (P,) of pairs, one anti-diagonal of all after the other.

    Pairs come in the order of the lengths of their longest paths, the longest first, so that those
    still to do are the first ones. Row i + 1 of each array is row i of the matrices, row 0 the
    border. What stands outside of a matrix is never read by a cell inside.
    """
    rows, columns = int(num_rows.max()), int(num_columns.max())
    places = firsts + torch.arange(rows)[:, None] * (strides - 1)
    last_place = len(steps) - 1
    sums = [steps.new_full((rows + 1, len(firsts)), NO_PATH) for _ in range(3)]
    ends = num_rows + num_columns - 2
    num_active = torch.bincount(ends).flip(0).cumsum(0).flip(0).tolist()
    result = torch.empty_like(firsts)
    for diagonal, active in enumerate(num_active):
        low, high = max(0, diagonal - columns + 1), min(rows, diagonal + 1)
        here, before = (slice(low + 1, high + 1), slice(active)), (slice(low, high), slice(active))
        now, last, earlier = (sums[(diagonal - age) % 3] for age in range(3))
        step = torch.take(steps, (places[before] + diagonal).clamp_(max=last_place))
        if diagonal == 0:
            now[here] = step
        else:
            cheapest = torch.minimum(last[before], last[here])
            now[here] = torch.minimum(cheapest, earlier[before], out=cheapest).add_(step)
        first = num_active[diagonal + 1] if diagonal + 1 < len(num_active) else 0
        done = torch.arange(first, active)
        result[first:active] = now[num_rows[first:active], done]
    return result


def frame_distances(x: Tensor, y: Tensor, distance: str) -> Tensor:
    """Distances (N, M) between frames (N, D) and (M, D) as `prepared` makes them.

    Angular: the angle over pi, from 0 to 1; that to a frame of zeros is 0.5.
    """
    if distance == "euclidean":
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.mm(x, y.T).clamp_(-1, 1).acos_().div_(pi)


def prepared(frames: Tensor, distance: str) -> Tensor:
    """Frames (N, D) as `frame_distances` takes them: of length 1 for angles."""
    if distance == "euclidean":
        return frames
    return torch.nn.functional.normalize(frames, dim=1)


@dataclasses.dataclass(frozen=True, slots=True)
class _Comparison:
    """Ranges of sorted items: X, A of the same phone, and all A and B of one context and speaker.

    Each phone of the targets begins at one of `firsts`, counted from the first target. Within a
    speaker X starts at place `own` of A; across, `own` is -1.
    """

    x: slice
    a: slice
    targets: slice
    firsts: NDArray[np.int64]
    own: int


def abx_scores(
    items: AbxItems,
    *,
    distance: str = "angular",
    any_context: bool = False,
    max_group: int | None = MAX_GROUP,
    max_speakers: int | None = MAX_SPEAKERS,
    generator: torch.Generator | None = None,
    on_share: Callable[[float], object] = lambda share: None,
) -> AbxScores:
    """Measure ABX within and across speakers.

    A cell has A and X of one phone, B of another; A and B are of one speaker, and all three of one
    context (unless `any_context`). Its error is the share of its triples where X is nearer to B
    than to A, a tie counting half. Cells are averaged over contexts and speakers of X, then over
    speakers of A and B, then over pairs of phones; with `any_context` at once over all
    speakers, then over pairs of phones: as fastabx does for ZeroSpeech.

    Args:
        items: Frames and items of a layer.
        distance: One of `DISTANCES`, between frames; that of items is `dtw`.
        any_context: Compare phones whatever their context.
        max_group: Most items of one phone, context and speaker, drawn; None for all.
        max_speakers: Most speakers of X for A of one phone, context and speaker, drawn; None for
            all.
        generator: Draws; None for one with seed 0.
        on_share: Called with the share of the work done since its last call.

    Raises:
        AuricleError: A frame is NaN or infinite, or there is no such distance.
    """
    if distance not in DISTANCES:
        raise AuricleError(f"there is no distance {distance!r}; expected {' or '.join(DISTANCES)}")
    if not bool(items.frames.isfinite().all()):
        raise AuricleError(
            "the representation holds NaN or infinity; check it with `auricle check`"
        )
    generator = generator or torch.Generator().manual_seed(0)
    chosen = _sorted(items, any_context, max_group, generator)
    chosen = dataclasses.replace(chosen, frames=prepared(chosen.frames, distance))
    comparisons = list(_comparisons(chosen, max_speakers, generator))
    cells = _Cells()
    for part in _parts(chosen, comparisons):
        _measure(chosen, part, distance, cells)
        on_share(len(part) / len(comparisons))
    return AbxScores(
        within=cells.mean(is_across=False, any_context=any_context),
        across=cells.mean(is_across=True, any_context=any_context),
    )


def _sorted(
    items: AbxItems, any_context: bool, max_group: int | None, generator: torch.Generator
) -> AbxItems:
    """Items by context, speaker and phone, at most `max_group` of each; frames in their order."""
    drawn = torch.randperm(len(items.starts), generator=generator).numpy()
    contexts = np.zeros_like(items.contexts) if any_context else items.contexts
    labels = (items.phones[drawn], items.speakers[drawn], contexts[drawn])
    order = drawn[np.lexsort(labels)]
    keys = np.stack([contexts[order], items.speakers[order], items.phones[order]])
    is_first = np.append(True, np.any(np.diff(keys, axis=1) != 0, axis=0))
    rank = np.arange(len(order)) - np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    if max_group is not None:
        order = order[rank < max_group]
    lengths = items.lengths[order]
    starts = np.cumsum(lengths) - lengths
    places = np.repeat(items.starts[order] - starts, lengths) + np.arange(lengths.sum())
    return AbxItems(
        frames=items.frames[torch.from_numpy(places)],
        starts=starts,
        lengths=lengths,
        phones=items.phones[order],
        contexts=contexts[order],
        speakers=items.speakers[order],
    )


def _comparisons(
    items: AbxItems, max_speakers: int | None, generator: torch.Generator
) -> Iterator[_Comparison]:
    """Comparisons of sorted items: those within speakers and across of each A."""
    keys = np.stack([items.contexts, items.speakers, items.phones])
    bounds = [0, *(np.flatnonzero(np.any(np.diff(keys, axis=1) != 0, axis=0)) + 1), keys.shape[1]]
    groups = [slice(int(start), int(stop)) for start, stop in pairwise(bounds)]
    by_block: dict[tuple[int, ...], list[slice]] = {}
    by_phone: dict[tuple[int, ...], list[slice]] = {}
    for group in groups:
        context, speaker, phone = (int(key) for key in keys[:, group.start])
        by_block.setdefault((context, speaker), []).append(group)
        by_phone.setdefault((context, phone), []).append(group)
    for group in groups:
        context, speaker, phone = (int(key) for key in keys[:, group.start])
        block = by_block[context, speaker]
        if len(block) < 2:
            continue
        begins = np.array([one.start for one in block])
        a = _Comparison(
            x=group,
            a=group,
            targets=slice(block[0].start, block[-1].stop),
            firsts=begins - begins[0],
            own=0,
        )
        if group.stop - group.start > 1:
            yield from _rows(items, a)
        others = [other for other in by_phone[context, phone] if other is not group]
        if max_speakers is not None and len(others) > max_speakers:
            drawn = torch.randperm(len(others), generator=generator)[:max_speakers].tolist()
            others = [others[index] for index in sorted(drawn)]
        for other in others:
            yield from _rows(items, dataclasses.replace(a, x=other, own=-1))


def _rows(items: AbxItems, one: _Comparison) -> Iterator[_Comparison]:
    """One comparison, or several with fewer X each that stay below `MAX_DISTANCES`."""
    width = int(items.lengths[one.targets].sum())
    limit = max(1, MAX_DISTANCES // (width * int(items.lengths[one.x].max())))
    for start in range(one.x.start, one.x.stop, limit):
        rows = slice(start, min(start + limit, one.x.stop))
        own = start - one.a.start if one.own >= 0 else -1
        yield dataclasses.replace(one, x=rows, own=own)


def _parts(items: AbxItems, comparisons: Sequence[_Comparison]) -> Iterator[list[_Comparison]]:
    """Comparisons in lists of at most `MAX_DISTANCES`, or of a single one."""
    part: list[_Comparison] = []
    total = 0
    for one in comparisons:
        size = int(items.lengths[one.x].sum()) * int(items.lengths[one.targets].sum())
        if part and total + size > MAX_DISTANCES:
            yield part
            part, total = [], 0
        part.append(one)
        total += size
    if part:
        yield part


def _measure(items: AbxItems, part: Sequence[_Comparison], distance: str, cells: _Cells) -> None:
    """Add the cells of some comparisons."""
    matrices: list[Tensor] = []
    pairs: list[NDArray[np.int64]] = []
    total = 0
    for one in part:
        x, y = (_frames_of(items, rows) for rows in (one.x, one.targets))
        matrices.append(frame_distances(items.frames[x], items.frames[y], distance).flatten())
        width = y.stop - y.start
        left = np.repeat(np.arange(one.x.start, one.x.stop), one.targets.stop - one.targets.start)
        right = np.tile(np.arange(one.targets.start, one.targets.stop), one.x.stop - one.x.start)
        firsts = (items.starts[left] - x.start) * width + items.starts[right] + (total - y.start)
        pairs.append(np.stack([left, right, firsts, np.full_like(firsts, width)]))
        total += len(matrices[-1])
    left, right, firsts, strides = np.concatenate(pairs, axis=1)
    # A pair costs as much the other way round, where two comparisons have it.
    keys = np.minimum(left, right) * len(items.starts) + np.maximum(left, right)
    _, chosen, places = np.unique(keys, return_index=True, return_inverse=True)
    costs = dtw(
        torch.cat(matrices),
        firsts[chosen],
        strides[chosen],
        items.lengths[left[chosen]],
        items.lengths[right[chosen]],
    )[torch.from_numpy(places)]
    start = 0
    for one, of_one in zip(part, pairs, strict=True):
        stop = start + of_one.shape[1]
        cells.add(items, one, costs[start:stop].view(one.x.stop - one.x.start, -1))
        start = stop


def _frames_of(items: AbxItems, rows: slice) -> slice:
    last = rows.stop - 1
    return slice(int(items.starts[rows.start]), int(items.starts[last] + items.lengths[last]))


class _Cells:
    """Errors of cells, of which several parts may hold different X."""

    def __init__(self) -> None:
        self._keys: list[NDArray[np.int64]] = []
        self._errors: list[NDArray[np.float64]] = []

    def add(self, items: AbxItems, one: _Comparison, costs: Tensor) -> None:
        """Add the cells of a comparison, of its costs (X, targets)."""
        first = one.a.start - one.targets.start
        to_a = costs[:, first : first + one.a.stop - one.a.start].clone()
        num_a = to_a.shape[1]
        if one.own >= 0:
            rows = torch.arange(len(to_a))
            to_a[rows, one.own + rows] = -torch.inf  # X is no A of its own: never farther than B
        to_a = to_a.sort(dim=1).values
        # A after `right` are farther than B; those from `left` to there tie.
        left = torch.searchsorted(to_a, costs)
        right = torch.searchsorted(to_a, costs, right=True)
        farther = (num_a - (left + right).double() / 2).sum(dim=0).numpy()
        counts = np.diff(one.firsts, append=len(farther))
        errors = np.add.reduceat(farther, one.firsts) / (counts * (num_a - (one.own >= 0)))
        is_other = one.firsts != first
        keys = np.empty((5, len(counts) - 1), dtype=np.int64)
        keys[0] = items.phones[one.a.start]
        keys[1] = items.phones[one.targets.start + one.firsts[is_other]]
        keys[2] = items.speakers[one.a.start]
        keys[3] = items.speakers[one.x.start]
        keys[4] = items.contexts[one.a.start]
        self._keys.append(keys)
        self._errors.append(np.stack([errors[is_other], np.full(keys.shape[1], len(costs))]))

    def mean(self, *, is_across: bool, any_context: bool) -> AbxScore:
        """Mean over the cells across speakers, or within them, level by level."""
        if not self._keys:
            return AbxScore(error=None, num_cells=0)
        keys, errors = np.concatenate(self._keys, axis=1), np.concatenate(self._errors, axis=1)
        kept = (keys[2] != keys[3]) == is_across
        if not kept.any():
            return AbxScore(error=None, num_cells=0)
        keys, errors = keys[:, kept], errors[:, kept]
        sizes = keys.max(axis=1) + 1
        codes, places = np.unique(np.ravel_multi_index(tuple(keys), sizes), return_inverse=True)
        sums, counts = (np.bincount(places, weights=row) for row in errors)
        values, num_cells = sums / counts, len(codes)
        # The first keys are the pair of phones, the next one is the speaker of A and B.
        for left_out in (sizes[2:],) if any_context else (sizes[3:], sizes[2:3]):
            codes, places = np.unique(codes // np.prod(left_out), return_inverse=True)
            values = np.bincount(places, weights=values) / np.bincount(places)
        return AbxScore(error=float(values.mean()), num_cells=num_cells)
