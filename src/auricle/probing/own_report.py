"""Results on one's own labels: scores with intervals, JSON and tables, lines, pictures."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from auricle.errors import AuricleError
from auricle.files.atomic import write_whole
from auricle.info import LayerInfo
from auricle.models.base import Encoder
from auricle.optional import optional
from auricle.plotting.figures import Curve, draw_curves, save_figure
from auricle.probing.features import (
    MAX_FRAMES,
    Examples,
    choose_layers,
    collect,
    seconds_bar,
)
from auricle.probing.probe import (
    CLASSIFIER,
    LEVEL,
    NUM_RESAMPLES,
    RIDGE,
    SHARES,
    class_scores,
    number_scores,
    predict_numbers,
    train_and_test,
)
from auricle.probing.report import LayerScores, ModelScores, Score, percent, state_digest, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from auricle.probing.own_labels import OwnTask

logger = logging.getLogger(__name__)

FILE = "results.json"

FEW_UNITS = 10
"""Units below which an interval is too narrow more often than its level says."""


class OwnSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings common to all models, by which results are comparable.

    Attributes:
        target: Column of the labels, or "frames".
        labels_sha256: Digest of ids, labels and folds.
        audio_sha256: Digest of the audio files.
        is_regression: True if labels are numbers to predict.
        num_classes: Number of labels; None in regression.
        split: Description of the split.
        folds: Names of the folds.
        unit: What the interval resamples: "utterance", "recording" or the column of the groups.
        num_units: Number of those with labels.
        interval: Description of the interval.
        model: The linear model and its options; its features are standardised.
        max_frames: Approximate number of frames per layer.
        versions: Versions of the software.
    """

    target: str
    labels_sha256: str
    audio_sha256: str
    is_regression: bool
    num_classes: int | None
    split: str
    folds: tuple[str, ...]
    unit: str
    num_units: int
    max_frames: int
    model: str
    interval: str = f"{LEVEL:.0%}, percentiles of {NUM_RESAMPLES} bootstrap resamples of the units"
    versions: dict[str, str] = msgspec.field(default_factory=versions)

    @property
    def baseline_name(self) -> str:
        """Name of the prediction without features."""
        return "mean" if self.is_regression else "majority class"


class LabelsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Results of `auricle.probe_labels`: settings, and the scores of each layer of each model."""

    settings: OwnSettings
    results: tuple[ModelScores, ...]

    def to_json(self) -> str:
        """All numbers as JSON, as `results.json` has them."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"

    def to_pandas(self) -> Any:
        """Rows of model and layer as a DataFrame.

        Columns are model, layer, is_default, dim, num_train, num_test, converged and for each score
        its name alone and with `_low`, `_high` and `_baseline`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        with optional("pandas", "a DataFrame of results"):
            import pandas as pd
        return pd.DataFrame(list(self._rows()))

    def _rows(self) -> Iterator[dict[str, object]]:
        for result in self.results:
            for layer in result.layers:
                row: dict[str, object] = {"model": result.model, "layer": layer.name}
                row["is_default"] = layer.name == result.default_layer
                for name in ("dim", "num_train", "num_test", "converged"):
                    row[name] = getattr(layer, name)
                for name, score in layer.scores.items():
                    row[name] = score.value
                    for end in ("low", "high", "baseline"):
                        row[f"{name}_{end}"] = getattr(score, end)
                yield row


def read_report(folder: Path, settings: OwnSettings) -> LabelsReport:
    """Read the results of earlier runs on the same labels; none if there are none.

    Raises:
        AuricleError: The file is not one of results, or its settings differ.
    """
    path = folder / FILE
    if not path.exists():
        return LabelsReport(settings=settings, results=())
    try:
        report = msgspec.json.decode(path.read_bytes(), type=LabelsReport)
    except (OSError, msgspec.MsgspecError) as error:
        raise AuricleError(
            f"{path} holds no results of `auricle probe --labels`: {error}; choose another --out"
        ) from error
    differing = [
        name
        for name in settings.__struct_fields__
        if getattr(settings, name) != getattr(report.settings, name)
    ]
    if differing:
        raise AuricleError(
            f"the results in {path} were measured with other {', '.join(differing)}, so that those "
            "of this run cannot be compared to them; choose another --out, or remove the file"
        )
    return report


def add_scores(folder: Path, settings: OwnSettings, new: ModelScores) -> None:
    """Add the scores of a model to a folder, replacing those it has; write `FILE` and a picture.

    Raises:
        AuricleError: The folder holds results of other settings, matplotlib is missing, or a file
            cannot be written.
    """
    # Read again for every result, as another run may have added to the folder.
    old = read_report(folder, settings).results
    results = [new if one.model == new.model else one for one in old]
    report = LabelsReport(
        settings=settings, results=tuple(results if new in results else [*results, new])
    )
    text = report.to_json()
    write_whole(folder / FILE, lambda path: path.write_text(text, encoding="utf-8"))
    save_figure(draw_scores(report), folder / Path(FILE).with_suffix(".png"))


def score_lines(settings: OwnSettings, result: ModelScores) -> Iterator[str]:
    """Text lines of a model: one per layer, between a heading and the baseline."""
    first = result.layers[0]
    yield f"{result.model}, {settings.target}"
    rows = [["layer", *(f"{n.replace('_', ' ')}{' %' * (n in SHARES)}" for n in first.scores), ""]]
    for layer in result.layers:
        marks = {
            "best": layer is result.best,
            "default": layer.name == result.default_layer,
            "not converged": not layer.converged,
        }
        shown = ", ".join(mark for mark, holds in marks.items() if holds)
        rows.append([layer.name, *(_cell(n, score) for n, score in layer.scores.items()), shown])
    baselines = (_text(name, score.baseline) for name, score in first.scores.items())
    rows.append([settings.baseline_name, *baselines, ""])
    width = max(22, *(len(cell) + 2 for row in rows for cell in row[1:-1]))
    for name, *cells, last in rows:
        yield f"  {name:<16}{''.join(cell.rjust(width) for cell in cells)}  {last}".rstrip()
    if first.frame_step > 1:
        yield f"  one frame in {first.frame_step}"
    if result.skipped_layers:
        yield f"  not probed: {', '.join(result.skipped_layers)}"


def setting_lines(settings: OwnSettings) -> Iterator[str]:
    """Text lines of the split and of the intervals."""
    yield f"split: {settings.split}"
    few = f"; of {settings.num_units} alone, they are rough" * (settings.num_units < FEW_UNITS)
    yield f"intervals: {settings.interval} ({settings.unit}s){few}"


def _text(name: str, value: float) -> str:
    return percent(value) if name in SHARES else f"{value:.3g}"


def _cell(name: str, score: Score) -> str:
    ends = [_text(name, end) for end in (score.low, score.high) if end is not None]
    return _text(name, score.value) + (f" [{', '.join(ends)}]" if ends else "")


def draw_scores(report: LabelsReport) -> Figure:
    """Figure of accuracy, or R2, over layers with its intervals.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    settings = report.settings
    scale = 1 if settings.is_regression else 100
    curves = [
        Curve(
            model=result.model,
            layers=[layer.name for layer in result.layers],
            values=[scale * layer.main.value for layer in result.layers],
            intervals=[
                (scale * layer.main.low, scale * layer.main.high)
                for layer in result.layers
                if layer.main.low is not None and layer.main.high is not None
            ],
            default_layer=result.default_layer,
        )
        for result in report.results
    ]
    title = f"{settings.target}: linear probes of frozen layers, {LEVEL:.0%} intervals"
    name = "R2" if settings.is_regression else "accuracy (%)"
    level = scale * report.results[0].layers[0].main.baseline
    return draw_curves(curves, title, name, level, settings.baseline_name)


def probe_own(
    encoder: Encoder,
    own: OwnTask,
    layers: Sequence[LayerInfo],
    *,
    model: str,
    on_seconds: Callable[[float], object] = lambda seconds: None,
) -> ModelScores:
    """Train and test linear models on layers of a frozen encoder, with one's own labels.

    Raises:
        AudioError: A file cannot be decoded or is too short for the encoder.
        AuricleError: The encoder is in training mode, or a layer cannot be probed.
        MissingExtraError: scikit-learn is not installed.
    """
    start = time.perf_counter()
    examples = collect(encoder, own.task, layers, on_seconds=on_seconds)
    middle = time.perf_counter()
    scores = []
    for layer in layers:
        try:
            scores.append(_layer_scores(layer, examples.pop(layer.name), own))
        except AuricleError as error:
            raise AuricleError(f"{model}, layer {layer.name}: {error}") from error
    names = {layer.name for layer in layers}
    return ModelScores(
        model=model,
        family=encoder.family,
        num_parameters=encoder.info.num_parameters,
        weights_sha256=encoder.provenance.sha256,
        encoder_sha256=state_digest(encoder),
        default_layer=encoder.default_layer,
        layers=tuple(scores),
        skipped_layers=tuple(i.name for i in encoder.layer_infos if i.name not in names),
        encoding_seconds=round(middle - start, 2),
        fitting_seconds=round(time.perf_counter() - middle, 2),
    )


def _layer_scores(layer: LayerInfo, examples: Examples, own: OwnTask) -> LayerScores:
    """Scores of a layer: each fold is trained and tested, and all predictions are pooled."""
    units = np.unique(np.array(own.units), return_inverse=True)[1][examples.utterances]
    labels: NDArray[Any] = examples.labels
    if own.is_regression:
        labels = labels.astype(np.float64)
    predicted: NDArray[Any]
    baseline: NDArray[Any]
    pooled, fold_scores, sizes, converged = [], [], [], True
    num_tested = np.zeros(len(own.units), dtype=np.int64)
    for fold in own.task.folds:
        is_train, is_test = examples.mask(fold.train), examples.mask(fold.test)
        train, test = examples.features[is_train], examples.features[is_test]
        true = labels[is_test]
        if own.is_regression:
            predicted = predict_numbers(train, labels[is_train], test)
            baseline = np.full(len(true), labels[is_train].mean())
            error, spread = ((true - x) ** 2 for x in (predicted, true.mean()))
            fold_scores.append(float(1 - error.sum() / spread.sum()) if spread.sum() else 0.0)
        else:
            result = train_and_test(train, labels[is_train], test, true)
            predicted, baseline = result.predictions, np.full(len(true), result.majority)
            fold_scores.append(result.accuracy)
            converged = converged and result.converged
        draws = num_tested[examples.utterances[is_test]]
        num_tested[list(fold.test)] += 1
        pooled.append((true, predicted, baseline, units[is_test], draws))
        sizes.append((len(train), len(test)))
    if not converged:
        logger.warning("%s: the solver did not converge on layer %s", own.task.name, layer.name)
    columns = [np.concatenate(parts) for parts in zip(*pooled, strict=True)]
    return LayerScores(
        name=layer.name,
        dim=layer.dim,
        hop_samples=layer.geometry.hop_samples,
        scores=(number_scores if own.is_regression else class_scores)(*columns),
        fold_scores=tuple(fold_scores),
        num_train=fmean(train for train, _ in sizes),
        num_test=fmean(test for _, test in sizes),
        frame_step=examples.frame_step,
        converged=converged,
    )


def settings_of(own: OwnTask) -> OwnSettings:
    """The settings of a run on a task."""
    task = own.task
    labels = {one.labels[task.target] for one in task.utterances} if task.target else set()
    labels |= {part.label for one in task.utterances for part in one.segments}
    return OwnSettings(
        target=task.name,
        labels_sha256=_digest(own),
        audio_sha256=own.audio_sha256,
        is_regression=own.is_regression,
        num_classes=None if own.is_regression else len(labels),
        split=own.split,
        folds=tuple(fold.name for fold in task.folds),
        unit=own.unit,
        num_units=len(set(own.units)),
        max_frames=MAX_FRAMES,
        model=RIDGE if own.is_regression else CLASSIFIER,
    )


def _digest(own: OwnTask) -> str:
    """Digest of ids, labels, units and folds."""
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(own.units))}
    rows = [
        (one.id, one.channel, one.labels.get(own.task.target or ""), numbers[unit], parts)
        for one, unit in zip(own.task.utterances, own.units, strict=True)
        for parts in [[(part.start, part.end, part.label) for part in one.segments]]
    ]
    folds = [(fold.name, fold.train, fold.test) for fold in own.task.folds]
    return hashlib.sha256(json.dumps([rows, folds]).encode()).hexdigest()


def probe_models(
    own: OwnTask,
    models: Iterable[tuple[str, Encoder]],
    *,
    layers: Sequence[int | str] | None = None,
    out: Path | None = None,
) -> Iterator[tuple[ModelScores, bool]]:
    """Scores of encoders by name, one after the other, and whether an earlier run has left them.

    With `out` each is written as soon as it is there, and results that the folder has of the same
    audio, labels, encoder and layers are not measured again: a run that was killed goes on.

    Raises:
        AuricleError: As `probe_own` and `add_scores`.
    """
    settings = settings_of(own)
    earlier = read_report(out, settings).results if out is not None else ()
    for model, encoder in models:
        names = None if layers is None else [encoder.layer_info(layer).name for layer in layers]
        chosen = choose_layers(encoder, names)
        old = next((one for one in earlier if one.model == model), None)
        if old is not None and _is_same(old, encoder, chosen):
            yield old, True
            continue
        with seconds_bar(f"{model}, {own.task.name}", own.task.utterances) as bar:
            new = probe_own(encoder, own, chosen, model=model, on_seconds=bar.update)
        if out is not None:
            add_scores(out, settings, new)
        yield new, False


def _is_same(old: ModelScores, encoder: Encoder, layers: Sequence[LayerInfo]) -> bool:
    """True if results are of an encoder as it is and these layers."""
    names = [layer.name for layer in layers]
    return [x.name for x in old.layers] == names and old.encoder_sha256 == state_digest(encoder)
