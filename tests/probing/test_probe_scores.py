from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from auricle.errors import AuricleError
from auricle.probing.probe import class_scores, number_scores, predict_numbers


def answers(num: int) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.str_]]:
    """Labels of three unequal classes, answers of which two thirds are right, and a majority."""
    generator = np.random.default_rng(0)
    true = generator.choice(["a", "b", "c"], num, p=[0.6, 0.3, 0.1])
    wrong = generator.choice(["a", "b", "d"], num)
    return true, np.where(generator.random(num) < 2 / 3, true, wrong), np.full(num, "a")


def test_scores_of_classes_equal_scikit_learn_s() -> None:
    true, predicted, majority = answers(200)
    scores = class_scores(true, predicted, majority, np.arange(200) // 4)
    for name, of in (
        ("accuracy", metrics.accuracy_score),
        ("macro_f1", lambda *pair: metrics.f1_score(*pair, average="macro", zero_division=0.0)),
        ("balanced_accuracy", lambda *pair: metrics.recall_score(
            *pair, average="macro", labels=["a", "b", "c"], zero_division=0.0)),
    ):  # fmt: skip
        assert scores[name].value == pytest.approx(of(true, predicted))
        assert scores[name].baseline == pytest.approx(of(true, majority))
        low, high = scores[name].low, scores[name].high
        assert low is not None
        assert high is not None
        assert low < scores[name].value < high


def test_an_interval_is_about_the_units_not_the_examples() -> None:
    true, predicted, majority = answers(100)
    alone = class_scores(true, predicted, majority, np.arange(100))["accuracy"]
    share = alone.value
    assert alone.low == pytest.approx(share - 1.96 * np.sqrt(share * (1 - share) / 100), abs=0.02)
    # The same examples a hundred times are no more evidence.
    many = class_scores(*(np.repeat(x, 100) for x in (true, predicted, majority, np.arange(100))))
    assert many["accuracy"] == alone
    # Nor are the same units in several draws of the folds.
    thrice = [np.tile(x, 3) for x in (true, predicted, majority, np.arange(100))]
    drawn = class_scores(*thrice, np.repeat(np.arange(3), 100))["accuracy"]
    assert (drawn.value, drawn.low, drawn.high) == (alone.value, alone.low, alone.high)
    single = class_scores(true, predicted, majority, np.zeros(100))["accuracy"]
    assert (single.low, single.high) == (None, None)


def test_scores_of_numbers_equal_scikit_learn_s_and_scipy_s() -> None:
    from scipy import stats

    generator = np.random.default_rng(1)
    true = 1000 + generator.standard_normal(80)
    predicted = true + generator.standard_normal(80)
    mean = np.full(80, true.mean() + 0.1)
    scores = number_scores(true, predicted, mean, np.arange(80))
    expected = {
        "r2": metrics.r2_score(true, predicted),
        "mae": metrics.mean_absolute_error(true, predicted),
        "pearson": stats.pearsonr(true, predicted).statistic,
        "spearman": stats.spearmanr(true, predicted).statistic,
    }
    assert {name: score.value for name, score in scores.items()} == pytest.approx(expected)
    assert scores["r2"].baseline == pytest.approx(metrics.r2_score(true, mean))
    assert scores["pearson"].baseline == scores["spearman"].baseline == 0
    assert all(s.low is not None and s.low < s.value < (s.high or 0) for s in scores.values())
    constant = number_scores(true, mean, mean, np.arange(80))
    assert constant["pearson"].value == 0
    with pytest.raises(AuricleError, match="all 80 test examples have the number 1"):
        number_scores(np.ones(80), predicted, mean, np.arange(80))


def test_ridge_regression_finds_a_line_at_any_scale_and_shrinks_noise() -> None:
    generator = np.random.default_rng(2)
    x = generator.standard_normal((60, 50)).astype(np.float32)
    y = 30 + 5.0 * x[:, 3]
    x[:, 3] = 1000 + x[:, 3] / 10
    found = predict_numbers(x[:40], y[:40], x[40:])
    assert metrics.r2_score(y[40:], found) > 0.6
    noise = generator.standard_normal(60)
    shrunk = predict_numbers(x[:40], noise[:40], x[40:])
    assert np.abs(shrunk).mean() < 0.6  # with the least penalty it is above 0.9


def test_features_are_standardised_by_the_training_examples_alone() -> None:
    generator = np.random.default_rng(3)
    x = generator.standard_normal((40, 4)).astype(np.float32)
    y = x @ np.arange(4)
    one = predict_numbers(x[:30], y[:30], x[30:31])
    with_others = predict_numbers(x[:30], y[:30], np.concatenate([x[30:31], 1e4 * x[31:]]))
    assert with_others[0] == pytest.approx(one[0])


def test_ridge_regression_refuses_what_it_cannot_fit() -> None:
    x, y = np.ones((4, 2), np.float32), np.arange(4.0)
    with pytest.raises(AuricleError, match="has 1 and 4"):
        predict_numbers(x[:1], y[:1], x)
    with pytest.raises(AuricleError, match="NaN or infinity"):
        predict_numbers(x, y, np.full((1, 2), np.nan, np.float32))
