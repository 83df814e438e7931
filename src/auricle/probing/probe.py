"""Linear probes of frozen layers: models of standardised features, and their scores."""

from __future__ import annotations

import dataclasses
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auricle.errors import AuricleError
from auricle.info import LayerInfo
from auricle.models.base import Encoder
from auricle.optional import optional
from auricle.probing.features import MAX_FRAMES, Examples, choose_layers, collect
from auricle.probing.report import (
    MAX_ITERATIONS,
    PENALTY,
    TOLERANCE,
    LayerResult,
    ProbeResult,
    Score,
)
from auricle.probing.tasks import Task

logger = logging.getLogger(__name__)

NUM_RESAMPLES = 1000

LEVEL = 0.95

RIDGE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""As `PENALTY`, of ridge regression; each training takes that of the least leave-one-out error."""

CLASSIFIER = (
    f"logistic regression (scikit-learn, lbfgs; penalty {PENALTY:g}, tolerance {TOLERANCE:g}, at "
    f"most {MAX_ITERATIONS} iterations)"
)
RIDGE = (
    "ridge regression (scikit-learn, RidgeCV; penalties "
    f"{', '.join(f'{penalty:g}' for penalty in RIDGE_PENALTIES)})"
)

SHARES = ("accuracy", "balanced_accuracy", "macro_f1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierResult:
    """Test accuracy of a classifier and of the majority class, and convergence of the solver.

    `predictions` (M,) are the labels that it gives the test examples, `majority` the label that is
    most frequent in training.
    """

    accuracy: float
    majority_accuracy: float
    converged: bool
    majority: str
    predictions: NDArray[np.str_] = dataclasses.field(compare=False)


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
    _check_finite(train, test)
    # scikit-learn's C weighs the sum of the losses against half the squared norm.
    regression: Any = LogisticRegression(
        C=1 / (PENALTY * len(train_labels)), tol=TOLERANCE, max_iter=MAX_ITERATIONS
    )
    model: Any = make_pipeline(StandardScaler(), regression)
    with warnings.catch_warnings():
        # Reported in the result instead.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, train_labels)
    predictions = model.predict(test)
    majority = names[counts.argmax()]
    return ClassifierResult(
        accuracy=float(np.mean(predictions == test_labels)),
        majority_accuracy=float(np.mean(test_labels == majority)),
        converged=int(regression.n_iter_.max()) < MAX_ITERATIONS,
        majority=str(majority),
        predictions=predictions,
    )


def predict_numbers(
    train: NDArray[np.float32], train_numbers: NDArray[np.float64], test: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Train ridge regression on (N, D) with numbers (N,), and predict those of (M, D).

    Features are standardised by mean and variance of the training examples. The penalty is that of
    `RIDGE_PENALTIES` with the least squared error on training examples that are left out one by one
    (Golub, Heath and Wahba 1979).

    Raises:
        AuricleError: There are no two examples to train on or none to test, or a feature is NaN or
            infinite.
        MissingExtraError: scikit-learn is not installed.
    """
    with optional("sklearn", "probing"):
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    if len(train) < 2 or len(test) == 0:
        raise AuricleError(
            f"a probe needs 2 or more training examples and examples to test, but has {len(train)} "
            f"and {len(test)}"
        )
    _check_finite(train, test)
    # scikit-learn's alpha weighs half the squared norm against half the sum of squared errors.
    regression: Any = RidgeCV(alphas=[penalty * len(train) for penalty in RIDGE_PENALTIES])
    model: Any = make_pipeline(StandardScaler(), regression)
    model.fit(train.astype(np.float64), train_numbers)
    return np.asarray(model.predict(test.astype(np.float64)), dtype=np.float64)


def _check_finite(*features: NDArray[np.float32]) -> None:
    if not all(np.isfinite(x).all() for x in features):
        raise AuricleError(
            "the representation holds NaN or infinity; use --dtype float32 if it is another, or "
            "check the checkpoint with `auricle check`"
        )


def class_scores(
    true: NDArray[Any],
    predicted: NDArray[Any],
    majority: NDArray[Any],
    units: NDArray[Any],
    draws: NDArray[Any] | int = 0,
) -> dict[str, Score]:
    """Accuracy, balanced accuracy and macro F1 of test examples (N,), with their intervals.

    Balanced accuracy is the mean recall of the labels that occur, macro F1 the mean F1 of those
    that occur or are predicted; `majority` are the predictions of the baseline. Predictions of all
    folds are pooled: F1 averaged over folds is biased (Forman and Scholz 2010, "Apples-to-apples in
    cross-validation studies").

    The interval is a percentile bootstrap (Efron 1979) over `units` (N,), the independent units:
    frames of an utterance, and utterances of a speaker, are alike, and an interval over examples
    would be too narrow. A t-interval over folds and seeds would be worse: folds share training
    examples, so that their spread has no unbiased estimate (Bengio and Grandvalet 2004), and a
    given split has but one. Each resample takes the predictions of one of the `draws` (N,) of the
    folds: their mean varies less than that of new units would, as all draws share the same units.
    The trained models are left unchanged: the interval says how the score varies with the tested
    units, not with the training set.
    """
    names, codes = np.unique(np.concatenate([true, predicted, majority]), return_inverse=True)
    truth, *answers = np.split(codes, 3)
    counts, index = _resamples(units, draws)

    def sums(kinds: NDArray[Any], chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        size = counts.shape[1] * len(names)
        of_units = np.bincount(index * len(names) + kinds, weights=chosen, minlength=size)
        return _weighted(counts, of_units.reshape(-1, len(names)))

    occurring = sums(truth)
    values = []
    for answer in answers:
        hits, said = sums(truth, truth == answer), occurring + sums(answer)
        accuracy = hits.sum(axis=1) / occurring.sum(axis=1)
        recall, f1 = _ratio(hits, occurring), _ratio(2 * hits, said)
        values.append((accuracy, np.nanmean(recall, axis=1), np.nanmean(f1, axis=1)))
    own, baseline = values
    return {
        name: _score(one, float(other[0]), counts)
        for name, one, other in zip(SHARES, own, baseline, strict=True)
    }


def number_scores(
    true: NDArray[Any],
    predicted: NDArray[Any],
    mean: NDArray[Any],
    units: NDArray[Any],
    draws: NDArray[Any] | int = 0,
) -> dict[str, Score]:
    """R2, mean absolute error, Pearson's and Spearman's correlation, as `class_scores`.

    R2 is one minus the squared error relative to that of the mean of the test examples. Spearman's
    is Pearson's of the ranks among all test examples, which resamples keep. `mean` are the
    predictions of the baseline; its correlations are 0 by definition, as those of any constant.

    Raises:
        AuricleError: All test examples have one number.
    """
    if true.min() == true.max():
        raise AuricleError(
            f"all {len(true)} test examples have the number {true[0]:g}, expected different ones: "
            "R2 is not defined"
        )
    counts, index = _resamples(units, draws)

    def sums(x: NDArray[Any]) -> NDArray[np.float64]:
        return _weighted(counts, np.bincount(index, weights=x, minlength=counts.shape[1]))

    num = sums(np.ones(len(true)))

    def covariance(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        x, y = x - x.mean(), y - y.mean()  # less rounding
        return sums(x * y) - sums(x) * sums(y) / num

    def correlation(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        product = np.maximum(covariance(x, x) * covariance(y, y), 0.0)
        return np.nan_to_num(_ratio(covariance(x, y), np.sqrt(product)))

    def r2(answer: NDArray[Any]) -> NDArray[np.float64]:
        return 1 - _ratio(sums((true - answer) ** 2), covariance(true, true))

    def mae(answer: NDArray[Any]) -> NDArray[np.float64]:
        return sums(np.abs(true - answer)) / num

    return {
        "r2": _score(r2(predicted), float(r2(mean)[0]), counts),
        "mae": _score(mae(predicted), float(mae(mean)[0]), counts),
        "pearson": _score(correlation(true, predicted), 0.0, counts),
        "spearman": _score(correlation(_ranks(true), _ranks(predicted)), 0.0, counts),
    }


def _ranks(x: NDArray[Any]) -> NDArray[np.float64]:
    """Rank of each number, the mean of those of equals."""
    _, index, num_equals = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray((num_equals.cumsum() - (num_equals - 1) / 2)[index])


def _ratio(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """x / y; NaN where y is 0."""
    return np.asarray(np.divide(x, y, out=np.full(x.shape, np.nan), where=y > 0))


def _resamples(
    units: NDArray[Any], draws: NDArray[Any] | int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Times that each unit of each draw is in a sample (1 + R, C U), first once each.

    The resamples take the C draws in turn. Also the column of each example.
    """
    names, index = np.unique(units, return_inverse=True)
    draw_names, draw_index = np.unique(np.broadcast_to(draws, units.shape), return_inverse=True)
    generator = torch.Generator().manual_seed(0)
    counts = np.zeros((1 + NUM_RESAMPLES, len(draw_names), len(names)), dtype=np.uint8)
    counts[0] = 1
    for number, row in enumerate(counts[1:]):
        drawn = torch.randint(len(names), (len(names),), generator=generator).numpy()
        row[number % len(draw_names)] = np.bincount(drawn, minlength=len(names))
    return counts.reshape(len(counts), -1), draw_index * len(names) + index


def _weighted(counts: NDArray[np.uint8], of_units: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over the units (U, ...) of each sample, block by block, for `counts` has few bytes."""
    blocks = np.array_split(counts, 20)
    return np.concatenate([block.astype(np.float64) @ of_units for block in blocks])


def _score(values: NDArray[np.float64], baseline: float, counts: NDArray[np.uint8]) -> Score:
    """The score of the first value, with the interval of the others."""
    low = high = None
    if counts.shape[1] > 1:
        tail = 100 * (1 - LEVEL) / 2
        low, high = (float(end) for end in np.nanpercentile(values[1:], [tail, 100 - tail]))
    return Score(value=float(values[0]), low=low, high=high, baseline=baseline)


def probe(
    encoder: Encoder,
    task: Task,
    *,
    layers: Sequence[str] | None = None,
    model: str | None = None,
    max_frames: int = MAX_FRAMES,
    on_seconds: Callable[[float], object] = lambda seconds: None,
) -> ProbeResult:
    """Train and test a linear classifier on each layer of a frozen encoder.

    Args:
        encoder: In eval mode, as `auricle.load` returns it.
        task: From `read_task`.
        layers: Names of the layers to probe; None for those with a hop of at least
            `MIN_HOP_SAMPLES`, and the default layer.
        model: Name of the encoder in the result; None for its own name.
        max_frames: Approximate number of frames per layer, in tasks with labelled frames.
        on_seconds: Called with the seconds of audio encoded since its last call.

    Raises:
        AudioError: A file cannot be decoded or is too short for the encoder.
        AuricleError: The encoder is in training mode, or a layer cannot be probed.
        LayerError: The encoder has no such layer.
        MissingExtraError: scikit-learn is not installed.
    """
    check_classifier()
    chosen = choose_layers(encoder, layers)
    start = time.perf_counter()
    examples = collect(encoder, task, chosen, max_frames=max_frames, on_seconds=on_seconds)
    middle = time.perf_counter()
    majority = 0.0
    results = []
    for layer in chosen:
        try:
            result, majority = _probe_layer(layer, examples[layer.name], task)
        except AuricleError as error:
            raise AuricleError(f"{encoder.info.name}, layer {layer.name}: {error}") from error
        results.append(result)
    names = {layer.name for layer in chosen}
    return ProbeResult(
        model=model or encoder.info.name,
        family=encoder.family,
        num_parameters=encoder.info.num_parameters,
        weights_sha256=encoder.provenance.sha256,
        task=task.name,
        folds=tuple(fold.name for fold in task.folds),
        seed=task.seed,
        num_classes=len(np.unique(examples[chosen[0].name].labels)),
        majority_accuracy=majority,
        default_layer=encoder.default_layer,
        layers=tuple(results),
        skipped_layers=tuple(i.name for i in encoder.layer_infos if i.name not in names),
        encoding_seconds=round(middle - start, 2),
        fitting_seconds=round(time.perf_counter() - middle, 2),
    )


def _probe_layer(layer: LayerInfo, examples: Examples, task: Task) -> tuple[LayerResult, float]:
    """Result of a layer, and the accuracy of the majority class."""
    results: list[ClassifierResult] = []
    sizes = []
    for fold in task.folds:
        is_train, is_test = examples.mask(fold.train), examples.mask(fold.test)
        results.append(
            train_and_test(
                examples.features[is_train],
                examples.labels[is_train],
                examples.features[is_test],
                examples.labels[is_test],
            )
        )
        sizes.append((int(is_train.sum()), int(is_test.sum())))
    converged = all(fold.converged for fold in results)
    if not converged:
        logger.warning("%s: the solver did not converge on layer %s", task.name, layer.name)
    result = LayerResult(
        name=layer.name,
        dim=layer.dim,
        hop_samples=layer.geometry.hop_samples,
        accuracy=fmean(fold.accuracy for fold in results),
        fold_accuracies=tuple(fold.accuracy for fold in results),
        num_examples=len(examples.labels),
        num_train=fmean(train for train, _ in sizes),
        num_test=fmean(test for _, test in sizes),
        frame_step=examples.frame_step,
        converged=converged,
    )
    return result, fmean(fold.majority_accuracy for fold in results)
