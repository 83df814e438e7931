"""Probes of the layers of a frozen encoder: linear ones on a task, and ABX on items of a corpus.

The classifier of linear ones is logistic regression on standardised features.
"""

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
from torch import Tensor

from auricle.corpus.reading import seconds_by_header
from auricle.errors import AuricleError
from auricle.info import LayerInfo
from auricle.models.base import Encoder
from auricle.optional import optional
from auricle.probing.abx import AbxItems, abx_scores
from auricle.probing.abx_report import AbxLayer, AbxResult, AbxSettings
from auricle.probing.features import MAX_FRAMES, Examples, collect, encoded
from auricle.probing.items import ItemTask, PhoneItem, check_items
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


CENTRE_DECIMALS = 9
"""Decimals of the centre of a frame in seconds, by which 0.0125 is no less than 0.0125."""


def measure_abx(
    encoder: Encoder,
    task: ItemTask,
    settings: AbxSettings,
    *,
    layers: Sequence[str] | None = None,
    model: str | None = None,
    on_seconds: Callable[[float], object] = lambda seconds: None,
    on_share: Callable[[float], object] = lambda share: None,
) -> AbxResult:
    """Measure the ABX of layers of a frozen encoder.

    An item has the frames whose centre, the middle of `encoder.frame_times`, lies in
    [onset, offset). The frames of all chosen layers are in memory together.

    Args:
        encoder: In eval mode, as `auricle.load` returns it.
        task: From `read_item_task`.
        settings: From `abx_settings`.
        layers: Names of the layers; None for those that `probe` chooses.
        model: Name of the encoder in the result; None for its own name.
        on_seconds: Called with the seconds of audio encoded since its last call.
        on_share: Called with the share of the scores made since its last call.

    Raises:
        AudioError: A file cannot be decoded or is too short for the encoder.
        AuricleError: The encoder is in training mode, items do not fit the audio, or a layer holds
            no frame of any item, NaN or infinity.
        LayerError: The encoder has no such layer.
    """
    if encoder.training:
        raise AuricleError("the encoder is in training mode; call its eval() before probing it")
    chosen = choose_layers(encoder, layers)
    start = time.perf_counter()
    collected = _collect(encoder, task, chosen, on_seconds)
    middle = time.perf_counter()
    items = [item for of_one in task.items for item in of_one]
    results = []
    for layer in chosen:
        found, num_empty = _layer_items(collected.pop(layer.name), items)
        try:
            scores = abx_scores(
                found,
                distance=settings.distance,
                any_context=settings.context == "any",
                max_group=settings.max_group,
                max_speakers=settings.max_speakers,
                generator=torch.Generator().manual_seed(settings.seed),
                on_share=lambda share: on_share(share / len(chosen)),
            )
        except AuricleError as error:
            raise AuricleError(f"{encoder.info.name}, layer {layer.name}: {error}") from error
        results.append(
            AbxLayer(
                name=layer.name,
                dim=layer.dim,
                hop_samples=layer.geometry.hop_samples,
                within=scores.within.error,
                across=scores.across.error,
                num_within_cells=scores.within.num_cells,
                num_across_cells=scores.across.num_cells,
                num_empty_items=num_empty,
            )
        )
    names = {layer.name for layer in chosen}
    return AbxResult(
        model=model or encoder.info.name,
        family=encoder.family,
        num_parameters=encoder.info.num_parameters,
        weights_sha256=encoder.provenance.sha256,
        items=task.source,
        num_items=len(items),
        num_phones=len({item.phone for item in items}),
        num_speakers=len({item.speaker for item in items}),
        default_layer=encoder.default_layer,
        layers=tuple(results),
        skipped_layers=tuple(i.name for i in encoder.layer_infos if i.name not in names),
        encoding_seconds=round(middle - start, 2),
        scoring_seconds=round(time.perf_counter() - middle, 2),
    )


def _collect(
    encoder: Encoder,
    task: ItemTask,
    layers: Sequence[LayerInfo],
    on_seconds: Callable[[float], object],
) -> dict[str, list[tuple[Tensor, NDArray[np.int64]]]]:
    """Frames (T, D) of each utterance and the ranges of its items in them (N, 2), by layer."""
    for utterance, items in zip(task.utterances, task.items, strict=True):
        seconds = seconds_by_header(utterance)
        if seconds is not None:
            check_items(items, seconds)
    parts: dict[str, dict[int, tuple[Tensor, NDArray[np.int64]]]] = {x.name: {} for x in layers}
    for one in encoded(encoder, task.utterances, layers, on_seconds=on_seconds):
        for name, frames in one.layers.items():
            times = encoder.frame_times(one.num_samples, name)
            parts[name][one.index] = (frames, frame_ranges(times, task.items[one.index]))
    return {
        name: [part[index] for index in range(len(task.utterances))] for name, part in parts.items()
    }


def frame_ranges(times: Tensor, items: Sequence[PhoneItem]) -> NDArray[np.int64]:
    """First frame of each item and the first after it (N, 2).

    `times` (T, 2) are start and end of the receptive field of each frame, in seconds. An item has
    the frames whose centre lies in [onset, offset).
    """
    centres = times.double().mean(dim=1).numpy().round(CENTRE_DECIMALS)
    bounds = np.array([(item.onset, item.offset) for item in items]).round(CENTRE_DECIMALS)
    return np.asarray(np.searchsorted(centres, bounds), dtype=np.int64)


def _layer_items(
    parts: list[tuple[Tensor, NDArray[np.int64]]], items: Sequence[PhoneItem]
) -> tuple[AbxItems, int]:
    """Items with frames of one layer, and the number of those without.

    Raises:
        AuricleError: No item has a frame.
    """
    offsets = np.cumsum([0, *(len(frames) for frames, _ in parts)])
    ranges = np.concatenate(
        [ranges + offset for (_, ranges), offset in zip(parts, offsets[:-1], strict=True)]
    )
    lengths = ranges[:, 1] - ranges[:, 0]
    kept = lengths > 0
    if not kept.any():
        raise AuricleError(
            f"none of the {len(items)} items holds the centre of a frame; check that their times "
            "are in seconds"
        )
    contexts = [f"{item.previous} {item.following}" for item in items]
    return AbxItems(
        frames=torch.cat([frames for frames, _ in parts]),
        starts=ranges[kept, 0],
        lengths=lengths[kept],
        phones=_codes([item.phone for item in items])[kept],
        contexts=_codes(contexts)[kept],
        speakers=_codes([item.speaker for item in items])[kept],
    ), int((~kept).sum())


def _codes(labels: Sequence[str]) -> NDArray[np.int64]:
    return np.asarray(np.unique(np.array(labels), return_inverse=True)[1], dtype=np.int64)
