from __future__ import annotations

import pytest
import torch

from auricle.objectives.reconstruction import TimeMask, draw_bands, draw_noise, draw_time_mask


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def time_mask(num_frames: list[int], seed: int = 0, proportion: float = 0.15) -> TimeMask:
    return draw_time_mask(num_frames, proportion=proportion, span=(7, 7), generator=generator(seed))


def run_lengths(row: torch.Tensor) -> list[int]:
    text = "".join("x" if value else " " for value in row.tolist())
    return [len(run) for run in text.split()]


def test_a_span_masks_its_frames_in_runs() -> None:
    # round(47 x 0.15 / 7) is 1.
    mask = time_mask([47] * 200)
    assert all(run_lengths(row) == [7] for row in mask.is_masked)
    # Every frame can be masked, the first and the last included.
    assert mask.is_masked.any(dim=0).all()


def test_share_of_masked_frames() -> None:
    mask = time_mask([700] * 200)
    # 15 starts at different frames: 105 frames, less what overlaps.
    assert 0.125 < mask.is_masked.float().mean() < 0.15
    assert all(min(run_lengths(row)) >= 7 for row in mask.is_masked)
    assert mask.is_masked.sum(dim=1).max() <= 105


def test_span_lengths_are_drawn_between_the_bounds() -> None:
    mask = draw_time_mask([20] * 300, proportion=0.01, span=(2, 4), generator=generator())
    assert {run_lengths(row)[0] for row in mask.is_masked} == {2, 3, 4}


def test_treatment_of_utterances() -> None:
    mask = time_mask([60] * 3_000)
    zeroed = mask.is_zeroed.any(dim=1)
    replaced = (mask.source != torch.arange(60)).any(dim=1)
    assert zeroed.float().mean().item() == pytest.approx(0.8, abs=0.03)
    # Now and then a span is replaced by itself.
    assert replaced.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert not (zeroed & replaced).any()
    assert torch.equal(mask.is_zeroed[zeroed], mask.is_masked[zeroed])
    assert not (mask.source != torch.arange(60))[~mask.is_masked].any()


def test_replaced_spans_are_whole_spans_of_the_utterance() -> None:
    mask = time_mask([30, 60] * 200, proportion=0.01)
    for row, length in enumerate([30, 60] * 200):
        moved = mask.source[row][mask.source[row] != torch.arange(60)]
        if len(moved):
            assert len(moved) == 7
            assert torch.equal(moved, torch.arange(int(moved[0]), int(moved[0]) + 7))
            assert moved.max() < length


def test_padding_changes_neither_the_mask_nor_the_draws_after_it() -> None:
    alone = time_mask([40, 25])
    beside = time_mask([40, 25, 400])
    for name in ("is_masked", "is_zeroed", "source"):
        assert torch.equal(getattr(alone, name), getattr(beside, name)[:2, :40])
    assert not alone.is_masked[1, 25:].any()
    assert not alone.is_zeroed[1, 25:].any()


def test_apply_by_hand() -> None:
    mask = TimeMask(
        is_masked=torch.tensor([[True, True, False], [False, True, True]]),
        is_zeroed=torch.tensor([[False, False, False], [False, True, True]]),
        source=torch.tensor([[1, 2, 2], [0, 1, 2]]),
    )
    features = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    assert mask.apply(features).flatten().tolist() == [2.0, 3.0, 3.0, 4.0, 0.0, 0.0]


def test_short_utterances_are_masked_too() -> None:
    mask = time_mask([8, 3])
    assert run_lengths(mask.is_masked[0]) == [7]
    assert mask.is_masked[1].tolist() == [True] * 3 + [False] * 5


def test_masks_are_the_generators_alone() -> None:
    first = time_mask([100] * 4, seed=1)
    torch.manual_seed(77)
    assert torch.equal(first.is_masked, time_mask([100] * 4, seed=1).is_masked)
    assert not torch.equal(first.is_masked, time_mask([100] * 4, seed=2).is_masked)


def test_bands() -> None:
    bands = draw_bands(4_000, 20, max_proportion=0.2, generator=generator())
    widths = bands.sum(dim=1)
    shares = torch.bincount(widths, minlength=5) / 4_000
    torch.testing.assert_close(shares, torch.full((5,), 0.2), atol=0.03, rtol=0)
    assert all(len(run_lengths(row)) <= 1 for row in bands)
    # Starts are uniform: bands of four start at columns 0 to 16.
    starts = bands[widths == 4].int().argmax(dim=1)
    assert starts.unique().tolist() == list(range(17))


def test_noise() -> None:
    noise, is_noisy = draw_noise([30, 20] * 500, 8, probability=0.3, std=0.2, generator=generator())
    assert is_noisy.float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert not noise[~is_noisy].any()
    assert not noise[1::2, 20:].any()
    values = noise[::2][is_noisy[::2]]
    assert values.std().item() == pytest.approx(0.2, abs=0.005)
    assert values.mean().item() == pytest.approx(0.0, abs=0.005)
