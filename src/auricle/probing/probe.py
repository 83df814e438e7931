"""Linear probes of the layers of a frozen encoder: logistic regression on standardised features."""

from __future__ import annotations

import dataclasses
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auricle.errors import AuricleError
from auricle.info import LayerInfo
from auricle.models.base import Encoder
from auricle.optional import optional
from auricle.probing.features import MAX_FRAMES, Examples, collect
from auricle.probing.report import (
    MAX_ITERATIONS,
    PENALTY,
    TOLERANCE,
    LayerResult,
    ProbeResult,
)
from auricle.probing.tasks import Task

logger = logging.getLogger(__name__)

MIN_HOP_SAMPLES = 80
"""Smallest hop of layers that are probed by default, 5 ms. Denser layers (the first blocks of PASE,
down to one frame per sample) are nearly copies of the waveform.
"""


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
    if encoder.training:
        raise AuricleError("the encoder is in training mode; call its eval() before probing it")
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


def choose_layers(encoder: Encoder, names: Sequence[str] | None) -> list[LayerInfo]:
    """Layers of these names by depth, then taps; for None, those that are probed by default.

    Raises:
        LayerError: The encoder has no such layer.
    """
    if names is None:
        return [
            info
            for info in encoder.layer_infos
            if info.geometry.hop_samples >= MIN_HOP_SAMPLES or info.name == encoder.default_layer
        ]
    chosen = {encoder.layer_info(name).name for name in names}
    return [info for info in (*encoder.layer_infos, *encoder.taps) if info.name in chosen]


def _probe_layer(layer: LayerInfo, examples: Examples, task: Task) -> tuple[LayerResult, float]:
    """Result of a layer, and the accuracy of the majority class."""
    results: list[ClassifierResult] = []
    sizes = []
    for fold in task.folds:
        is_train, is_test = (np.isin(examples.utterances, part) for part in (fold.train, fold.test))
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
