from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from auricle.errors import AuricleError, MissingExtraError
from auricle.probing import probe as probe_module
from auricle.probing.probe import train_and_test


def examples(num: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Two classes that one dimension tells, far from zero and of a scale of its own."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(["a", "b"], num, p=[0.7, 0.3])
    x = generator.standard_normal((num, 3))
    x[:, 1] = 1000 + 0.001 * (x[:, 1] / 4 + np.where(labels == "b", 1, -1))
    return x.astype(np.float64).astype(np.float32), labels


def test_linearly_separable_labels_are_learnt_at_any_scale() -> None:
    train, test = examples(400, 0), examples(200, 1)
    outcome = train_and_test(*train, *test)
    assert outcome.accuracy > 0.95
    assert outcome.converged
    assert outcome.majority_accuracy == np.mean(test[1] == "a")


def test_labels_that_are_not_linearly_separable_are_not_learnt() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((10_000, 2), dtype=np.float32)
    labels = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
    outcome = train_and_test(x[:5000], labels[:5000], x[5000:], labels[5000:])
    assert 0.4 < outcome.accuracy < 0.6


def test_it_is_deterministic() -> None:
    train, test = examples(100, 0), examples(100, 1)
    assert train_and_test(*train, *test) == train_and_test(*train, *test)


def test_the_penalty_does_not_depend_on_the_number_of_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sklearn import linear_model

    made: list[linear_model.LogisticRegression] = []

    class Recorded(linear_model.LogisticRegression):  # type: ignore[misc]
        def fit(self, *arguments: object, **options: object) -> object:
            made.append(self)
            return super().fit(*arguments, **options)

    monkeypatch.setattr(linear_model, "LogisticRegression", Recorded)
    x, labels = examples(100, 0)
    once = train_and_test(x, labels, x, labels)
    twice = train_and_test(np.tile(x, (2, 1)), np.tile(labels, 2), x, labels)
    assert once.accuracy == twice.accuracy
    np.testing.assert_allclose(made[0].coef_, made[1].coef_, rtol=1e-2)


def test_a_constant_dimension_and_an_unseen_label_are_no_obstacle() -> None:
    x, labels = examples(100, 0)
    x[:, 0] = 5
    strange = np.array(["c"] * 10)
    assert train_and_test(x, labels, x[:10], strange).accuracy == 0


def test_a_solver_that_is_not_done_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "MAX_ITERATIONS", 1)
    assert not train_and_test(*examples(100, 0), *examples(50, 1)).converged


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["train", "test"])
def test_what_is_not_finite_is_refused(value: float, place: str) -> None:
    train, test = examples(20, 0), examples(20, 1)
    (train if place == "train" else test)[0][3, 1] = value
    with pytest.raises(AuricleError, match="NaN or infinity"):
        train_and_test(*train, *test)


def test_one_label_or_no_test_is_refused() -> None:
    x, labels = examples(20, 0)
    with pytest.raises(AuricleError, match="20 of 1 and 20"):
        train_and_test(x, np.array(["a"] * 20), x, labels)
    with pytest.raises(AuricleError, match="20 of 2 and 0"):
        train_and_test(x, labels, x[:0], labels[:0])


def test_without_scikit_learn_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match="pip install scikit-learn"):
        probe_module.check_classifier()
