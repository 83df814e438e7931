"""`probe`: every layer of a frozen encoder against one task."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.outputs import LayerInfo
from auricle.probing.classifier import ClassifierResult, check_classifier, train_and_test
from auricle.probing.features import MAX_FRAMES, Examples, collect
from auricle.probing.results import LayerResult, ProbeResult
from auricle.probing.tasks import Task

logger = logging.getLogger(__name__)

MIN_HOP_SAMPLES = 80
"""Layers of denser frames (under 5 ms apart; the first blocks of PASE, down to one frame for each
sample) are probed only where they are asked for by name: they are near copies of the waveform."""


def probe(
    encoder: Encoder,
    task: Task,
    *,
    layers: Sequence[str] | None = None,
    model: str | None = None,
    max_frames: int = MAX_FRAMES,
    on_seconds: Callable[[float], object] = lambda seconds: None,
) -> ProbeResult:
    """Train and test a linear classifier on each layer; the encoder itself learns nothing.

    Args:
        encoder: In eval mode, as `auricle.load` gives it.
        task: From `read_task`.
        layers: Names of the layers to probe; None for all whose frames are `MIN_HOP_SAMPLES` or
            more apart, and the default one.
        model: What to call the encoder in the result; None for its own name.
        max_frames: About as many frames are kept of each layer where frames are labelled.
        on_seconds: Told the length of audio that has been encoded since it was told last.

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
    """The layers of these names in order of depth; for None, all that are not too dense.

    Raises:
        LayerError: The encoder has no such layer.
    """
    if names is None:
        return [
            info
            for info in encoder.layer_infos
            if info.geometry.hop_samples >= MIN_HOP_SAMPLES or info.name == encoder.default_layer
        ]
    for name in names:
        encoder.num_frames(0, name)  # raises where there is none
    return [info for info in encoder.layer_infos if info.name in names]


def _probe_layer(layer: LayerInfo, examples: Examples, task: Task) -> tuple[LayerResult, float]:
    """The result of a layer, and the accuracy of the most frequent label."""
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
        logger.warning("%s: the solver was not done with layer %s", task.name, layer.name)
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
