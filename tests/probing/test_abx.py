from __future__ import annotations

import math
from itertools import product
from statistics import fmean

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from auricle.errors import AuricleError
from auricle.probing import abx
from auricle.probing.abx import AbxItems, abx_scores, dtw, frame_distances, prepared


def slow_dtw(distances: NDArray[np.float64]) -> float:
    """Cheapest, then shortest path by recursion over (sum, length), cell by cell."""
    rows, columns = distances.shape
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for i, j in product(range(rows), range(columns)):
        before = [best[k] for k in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if k in best]
        cost, length = min(before, default=(0.0, 0))
        best[i, j] = (cost + float(distances[i, j]), length + 1)
    cost, length = best[rows - 1, columns - 1]
    return cost / length


def pairs_of(
    sizes: list[tuple[int, int]], seed: int
) -> tuple[torch.Tensor, list[NDArray[np.int64]], list[NDArray[np.float64]]]:
    """Random matrices, each within a wider one, flat and by themselves."""
    generator = np.random.default_rng(seed)
    wide = [generator.random((rows, columns + 3)).astype(np.float32) for rows, columns in sizes]
    firsts = np.cumsum([0, *(one.size for one in wide[:-1])]) + 2
    strides = np.array([one.shape[1] for one in wide])
    rows, columns = (np.array(side) for side in zip(*sizes, strict=True))
    matrices = [
        one[:, 2 : 2 + size].astype(np.float64) for one, (_, size) in zip(wide, sizes, strict=True)
    ]
    flat = torch.from_numpy(np.concatenate([one.ravel() for one in wide]))
    return flat, [firsts, strides, rows, columns], matrices


@pytest.mark.parametrize("cells", [1, 7, 2**15])
def test_alignments_of_many_sizes_at_once_are_those_one_by_one(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abx, "MAX_CELLS_OF_DIAGONAL", cells)
    sizes = [(1, 1), (1, 4), (5, 1), (3, 3), (2, 7), (7, 2), (4, 5), (3, 3), (6, 6)]
    flat, places, matrices = pairs_of(sizes, seed=3)
    expected = [slow_dtw(matrix) for matrix in matrices]
    assert dtw(flat, *places).numpy() == pytest.approx(expected, abs=1e-7)


def test_of_equally_cheap_paths_the_shortest_counts() -> None:
    flat = torch.full((12,), 0.5)
    size = [np.array([value]) for value in (0, 4, 3, 4)]
    assert dtw(flat, *size).item() == pytest.approx(0.5)
    # Two paths of sum 1: one of 2 steps over the diagonal, one of 3 around it.
    around = torch.tensor([0.5, 0.0, 0.0, 0.5])
    assert dtw(around, *(np.array([value]) for value in (0, 2, 2, 2))).item() == pytest.approx(0.5)
    nothing = torch.zeros(4)
    assert dtw(nothing, *(np.array([value]) for value in (0, 2, 2, 2))).item() == 0.0


def test_angles_are_shares_of_half_a_turn_and_zeros_stand_at_a_right_angle() -> None:
    x = prepared(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), "angular")
    y = prepared(torch.tensor([[3.0, 3.0], [-1.0, 0.0], [0.0, 5.0]]), "angular")
    expected = torch.tensor([[0.25, 1.0, 0.5], [0.5, 0.5, 0.5]])
    torch.testing.assert_close(frame_distances(x, y, "angular"), expected)
    euclidean = frame_distances(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]), "euclidean")
    assert euclidean.item() == pytest.approx(5.0)


def corpus(
    seed: int, *, num_speakers: int = 3, num_items: int = 90, dim: int = 3
) -> tuple[AbxItems, list[NDArray[np.float64]]]:
    """Items that overlap in random frames, and their frames one by one."""
    generator = np.random.default_rng(seed)
    phones, contexts = generator.integers(0, 3, num_items), generator.integers(0, 2, num_items)
    speakers = generator.integers(0, num_speakers, num_items)
    lengths = generator.integers(1, 5, num_items)
    starts = generator.integers(0, 60, num_items)
    frames = generator.standard_normal((65, dim)).astype(np.float32)
    items = AbxItems(
        frames=torch.from_numpy(frames),
        starts=starts,
        lengths=lengths,
        phones=phones,
        contexts=contexts,
        speakers=speakers,
    )
    own = [frames[a : a + n].astype(np.float64) for a, n in zip(starts, lengths, strict=True)]
    return items, own


def slow_scores(
    items: AbxItems, frames: list[NDArray[np.float64]], *, any_context: bool
) -> dict[bool, tuple[float | None, int]]:
    """Error and number of cells, by whether X is of another speaker: every triple by itself."""

    def far(i: int, j: int) -> float:
        x, y = (frames[k] / np.linalg.norm(frames[k], axis=1, keepdims=True) for k in (i, j))
        return slow_dtw(np.arccos(np.clip(x @ y.T, -1, 1)) / math.pi)

    num = len(frames)
    distance = [[far(i, j) for j in range(num)] for i in range(num)]
    context = np.zeros(num) if any_context else items.contexts
    facts = list(zip(items.phones, context, items.speakers, strict=True))
    errors: dict[tuple[object, ...], list[float]] = {}
    for a, b, x in product(range(num), repeat=3):
        (p, c, s), (q, *of_b), (r, of_x, t) = facts[a], facts[b], facts[x]
        if p == q or r != p or of_b != [c, s] or of_x != c or a == x:
            continue
        wrong = 0.5 * (1 + np.sign(distance[x][a] - distance[x][b]))
        errors.setdefault((s != t, p, q, s, c, t), []).append(wrong)
    found: dict[bool, tuple[float | None, int]] = {}
    for is_across in (False, True):
        cells = {key[1:]: fmean(e) for key, e in errors.items() if key[0] == is_across}
        levels: list[int] = [2] if any_context else [3, 2]
        means: dict[tuple[object, ...], float] = dict(cells)
        for level in levels:
            groups: dict[tuple[object, ...], list[float]] = {}
            for key, value in means.items():
                groups.setdefault(key[:level], []).append(value)
            means = {key: fmean(values) for key, values in groups.items()}
        found[is_across] = (fmean(means.values()) if means else None, len(cells))
    return found


@pytest.mark.parametrize("any_context", [False, True])
@pytest.mark.parametrize("max_distances", [60, 2**23])
def test_scores_are_those_of_every_triple(
    any_context: bool, max_distances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abx, "MAX_DISTANCES", max_distances)
    items, frames = corpus(seed=5, num_items=45)
    scores = abx_scores(items, any_context=any_context, max_group=None, max_speakers=None)
    expected = slow_scores(items, frames, any_context=any_context)
    for is_across, score in ((False, scores.within), (True, scores.across)):
        error, num_cells = expected[is_across]
        assert score.num_cells == num_cells > 0
        assert score.error == pytest.approx(error, abs=1e-6)


def test_one_speaker_has_nothing_across_and_one_phone_nothing_at_all() -> None:
    items, _ = corpus(seed=1, num_speakers=1)
    scores = abx_scores(items)
    assert scores.within.error is not None
    assert (scores.across.error, scores.across.num_cells) == (None, 0)
    items.phones[:] = 0
    nothing = abx_scores(items)
    assert (nothing.within.error, nothing.within.num_cells) == (None, 0)


def test_equal_frames_are_a_tie_and_distinct_phones_no_error() -> None:
    items, _ = corpus(seed=2)
    items.frames[:] = 1.0
    same = abx_scores(items)
    assert (same.within.error, same.across.error) == (0.5, 0.5)
    items, _ = corpus(seed=2)
    eye = torch.eye(3)
    clear = AbxItems(
        frames=torch.cat([eye[phone].expand(4, 3) for phone in items.phones]),
        starts=np.arange(len(items.phones)) * 4,
        lengths=items.lengths,
        phones=items.phones,
        contexts=items.contexts,
        speakers=items.speakers,
    )
    apart = abx_scores(clear)
    assert (apart.within.error, apart.across.error) == (0.0, 0.0)


def test_groups_and_speakers_are_drawn_by_the_seed() -> None:
    items, _ = corpus(seed=7, num_speakers=6, num_items=150)
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    one, again, other = (
        abx_scores(items, max_group=2, max_speakers=2, generator=seed) for seed in seeds
    )
    assert one == again
    assert one.within.error != other.within.error
    whole = abx_scores(items, max_group=None, max_speakers=None)
    assert one.across.num_cells < whole.across.num_cells
    assert one.within.num_cells <= whole.within.num_cells


def test_shares_of_the_work_add_up_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abx, "MAX_DISTANCES", 500)
    shares: list[float] = []
    abx_scores(corpus(seed=4)[0], on_share=shares.append)
    assert len(shares) > 3
    assert sum(shares) == pytest.approx(1.0)


def test_frames_that_are_no_numbers_and_unknown_distances_are_refused() -> None:
    items, _ = corpus(seed=4)
    with pytest.raises(AuricleError, match="no distance 'cosin'; expected angular or euclidean"):
        abx_scores(items, distance="cosin")
    items.frames[3, 1] = torch.nan
    with pytest.raises(AuricleError, match="NaN or infinity"):
        abx_scores(items)


def test_euclidean_distances_see_the_size_of_frames() -> None:
    items, _ = corpus(seed=2)
    sizes = torch.tensor([1.0, 2.0, 4.0])  # normalised without rounding
    loud = AbxItems(
        frames=torch.cat([sizes[phone].expand(4, 3) for phone in items.phones]),
        starts=np.arange(len(items.phones)) * 4,
        lengths=items.lengths,
        phones=items.phones,
        contexts=items.contexts,
        speakers=items.speakers,
    )
    assert abx_scores(loud, distance="euclidean").within.error == 0.0
    assert abx_scores(loud).within.error == 0.5
