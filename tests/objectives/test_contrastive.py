from __future__ import annotations

import math

import pytest
import torch

from auricle.objectives.contrastive import (
    accuracy,
    at_predicted_frames,
    binary_nce,
    contrast,
    draw_negatives,
    info_nce,
)

LENGTHS = [5, 2, 4]


def draw(*, across_batch: bool, seed: int = 0, num_negatives: int = 4_000) -> torch.Tensor:
    return draw_negatives(
        LENGTHS,
        num_negatives,
        across_batch=across_batch,
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("across_batch", [False, True])
def test_negatives_are_all_other_valid_frames_alike(across_batch: bool) -> None:
    drawn = draw(across_batch=across_batch)
    assert drawn.shape == (3, 5, 4_000)
    valid_frames = {(row, frame) for row in range(3) for frame in range(LENGTHS[row])}
    for row, frame in valid_frames:
        expected = {
            5 * other_row + other
            for other_row, other in valid_frames
            if (across_batch or other_row == row) and (other_row, other) != (row, frame)
        }
        values, counts = drawn[row, frame].unique(return_counts=True)
        assert set(values.tolist()) == expected
        assert counts / 4_000 == pytest.approx(
            torch.full(counts.shape, 1 / len(expected)), abs=0.04
        )


def test_the_generator_decides() -> None:
    assert torch.equal(draw(across_batch=True, seed=1), draw(across_batch=True, seed=1))
    assert not torch.equal(draw(across_batch=True, seed=1), draw(across_batch=True, seed=2))


def test_predictions_stand_where_they_come_true() -> None:
    by_one, by_three = torch.arange(1.0, 5.0), torch.arange(11.0, 15.0)
    moved = at_predicted_frames([by_one.view(1, 4, 1), by_three.view(1, 4, 1)], [1, 3])
    assert moved[0, :, :, 0].tolist() == [[0, 0], [1, 0], [2, 0], [3, 11]]


def test_scores_are_the_products_with_each_candidate() -> None:
    torch.manual_seed(0)
    predictions, targets = torch.randn(3, 5, 2, 6), torch.randn(3, 5, 6)
    negatives = draw(across_batch=True, num_negatives=3)
    scores = contrast(predictions, targets, negatives)
    assert scores.shape == (3, 5, 2, 4)
    for row in range(3):
        for frame in range(5):
            candidates = [targets[row, frame]]
            candidates += [targets[index // 5, index % 5] for index in negatives[row, frame]]
            expected = predictions[row, frame] @ torch.stack(candidates).T
            torch.testing.assert_close(scores[row, frame], expected)


def test_losses_by_hand() -> None:
    scores = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 1.0], [50.0, 60.0, 70.0]])
    counts = torch.tensor([True, True, False])
    log = math.log
    exp = math.exp
    among = [log(exp(2) + 1 + exp(-1)) - 2, log(1 + exp(3) + exp(1))]
    assert info_nce(scores, counts).item() == pytest.approx(sum(among) / 2)
    positive = [log(1 + exp(-2)), log(2)]
    negative = [log(2) + log(1 + exp(-1)), log(1 + exp(3)) + log(1 + exp(1))]
    expected = (sum(positive) + sum(negative)) / 2
    assert binary_nce(scores, counts).item() == pytest.approx(expected)
    expected = (sum(positive) + 0.5 * sum(negative)) / 2
    assert binary_nce(scores, counts, 0.5).item() == pytest.approx(expected)
    assert accuracy(scores, counts).item() == 0.5
    assert accuracy(torch.zeros(4, 3), torch.ones(4, dtype=torch.bool)).item() == 0.0
