"""Linear classifier of the probes: logistic regression on standardised features."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auricle.errors import AuricleError
from auricle.optional import optional

PENALTY = 0.01
"""Weight of half the squared norm of the weights, relative to the mean loss of the examples.

One value for all models, layers and tasks, chosen on the baselines: 0.03 would give fbank one point
more on phones, 0.003 two less; words hardly change from 3e-4 to 0.03.
"""

TOLERANCE = 1e-3
"""Gradient tolerance of the solver.

A tenth of it takes three times as long and changes accuracies of the baselines by less than 0.2
points.
"""

MAX_ITERATIONS = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierResult:
    """Test accuracy of a classifier and of the majority class, and convergence of the solver."""

    accuracy: float
    majority_accuracy: float
    converged: bool


def check_classifier() -> None:
    """Check that scikit-learn is installed, before any work is done.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    with optional("sklearn", "probing"):
        import sklearn.linear_model  # noqa: F401 - asks only whether it works


def train_and_test(
    train: NDArray[np.float32],
    train_labels: NDArray[np.str_],
    test: NDArray[np.float32],
    test_labels: NDArray[np.str_],
) -> ClassifierResult:
    """Train a classifier on (N, D) with labels (N,) and test it on (M, D) with labels (M,).

    Features are standardised by mean and variance of the training examples. A test example whose
    label does not occur in training counts as an error.

    Raises:
        AuricleError: There are no examples, only one label, or a feature is NaN or infinite.
        MissingExtraError: scikit-learn is not installed.
    """
    with optional("sklearn", "probing"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    names, counts = np.unique(train_labels, return_counts=True)
    if len(names) < 2 or len(test_labels) == 0:
        raise AuricleError(
            f"a probe needs training examples of 2 or more labels and examples to test, but has "
            f"{len(train_labels)} of {len(names)} and {len(test_labels)}"
        )
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise AuricleError(
            "the representation holds NaN or infinity; use --dtype float32 if it is another, or "
            "check the checkpoint with `auricle check`"
        )
    # scikit-learn's C weighs the sum of the losses against half the squared norm.
    regression: Any = LogisticRegression(
        C=1 / (PENALTY * len(train_labels)), tol=TOLERANCE, max_iter=MAX_ITERATIONS
    )
    model: Any = make_pipeline(StandardScaler(), regression)
    with warnings.catch_warnings():
        # Reported in the result instead.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, train_labels)
    return ClassifierResult(
        accuracy=float(np.mean(model.predict(test) == test_labels)),
        majority_accuracy=float(np.mean(test_labels == names[counts.argmax()])),
        converged=int(regression.n_iter_.max()) < MAX_ITERATIONS,
    )
