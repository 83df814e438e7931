"""Results of probing as JSON, and reports of them: Markdown table, figures of layers, a folder."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from auricle.errors import AuricleError
from auricle.files.atomic import write_whole
from auricle.plotting.figures import Curve, draw_curves, save_figure
from auricle.probing.tasks import TASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from auricle.models.base import Encoder


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


class LayerResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one layer. Accuracies are fractions from 0 to 1.

    Attributes:
        name: Name of the layer.
        dim: Its width.
        hop_samples: Samples between its frames.
        accuracy: Test accuracy, mean over the folds.
        fold_accuracies: Test accuracy of each fold, in the order of the task.
        num_examples: Frames or utterances of all folds together.
        num_train: Training examples, mean over the folds.
        num_test: Test examples, mean over the folds.
        frame_step: Subsampling factor of the frames.
        converged: Whether the solver converged in every fold.
    """

    name: str
    dim: int
    hop_samples: int
    accuracy: float
    fold_accuracies: tuple[float, ...]
    num_examples: int
    num_train: float
    num_test: float
    frame_step: int
    converged: bool


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Score on all test examples, with its interval and that of a prediction without features.

    Attributes:
        value: The score; accuracies and F1 are fractions from 0 to 1.
        low: Lower end of the 95 % interval; None where there is a single unit.
        high: Its upper end.
        baseline: Score of the majority class, or of the mean, of the training examples.
    """

    value: float
    low: float | None
    high: float | None
    baseline: float


class LayerScores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one layer.

    Attributes:
        name: Name of the layer.
        dim: Its width.
        hop_samples: Samples between its frames.
        scores: By name: accuracy, balanced_accuracy, macro_f1; or r2, mae, pearson, spearman.
        fold_scores: Accuracy, or R2, of each fold in the order of `OwnSettings.folds`.
        num_train: Training examples, mean over the folds.
        num_test: Test examples, mean over the folds.
        frame_step: Subsampling factor of the frames.
        converged: Whether the solver converged in every fold.
    """

    name: str
    dim: int
    hop_samples: int
    scores: dict[str, Score]
    fold_scores: tuple[float, ...]
    num_train: float
    num_test: float
    frame_step: int
    converged: bool

    @property
    def main(self) -> Score:
        """Accuracy, or R2 in regression: the first score."""
        return next(iter(self.scores.values()))


class ModelScores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of the layers of one model; attributes as of `ProbeResult`.

    `encoder_sha256` is the digest of what was measured, by `state_digest`.
    """

    model: str
    family: str
    num_parameters: int
    weights_sha256: str | None
    encoder_sha256: str
    default_layer: str
    layers: tuple[LayerScores, ...]
    skipped_layers: tuple[str, ...]
    encoding_seconds: float
    fitting_seconds: float

    @property
    def best(self) -> LayerScores:
        """Layer with the highest accuracy or R2, the first of equals."""
        return max(self.layers, key=lambda layer: layer.main.value)


def state_digest(encoder: Encoder) -> str:
    """Digest of an encoder's configuration, precision and weights as they are in memory."""
    import torch

    from auricle.inference.approximate import precision_of

    facts = f"{encoder.family} {encoder.config!r} {precision_of(encoder)}"
    digest = hashlib.sha256(facts.encode())
    for name, weight in encoder.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one model on one task.

    Attributes:
        model: Name of the model, as the user gave it.
        family: Its family.
        num_parameters: Parameters of the encoder.
        weights_sha256: Digest of the weights file in hex; None for a baseline, and if the encoder
            does not know it, as for a file given by its path.
        task: Name of the task.
        folds: Names of the folds.
        seed: Seed of the task.
        num_classes: Number of labels.
        majority_accuracy: Accuracy of the majority class, mean over the folds.
        default_layer: Layer that a plain call of the encoder returns.
        layers: Results in order of depth.
        skipped_layers: Layers that were not probed.
        encoding_seconds: Time for reading and encoding.
        fitting_seconds: Time for fitting the classifiers.
    """

    model: str
    family: str
    num_parameters: int
    weights_sha256: str | None
    task: str
    folds: tuple[str, ...]
    seed: int
    num_classes: int
    majority_accuracy: float
    default_layer: str
    layers: tuple[LayerResult, ...]
    skipped_layers: tuple[str, ...]
    encoding_seconds: float
    fitting_seconds: float

    @property
    def best(self) -> LayerResult:
        """Layer with the highest accuracy, the first of equals."""
        return max(self.layers, key=lambda layer: layer.accuracy)

    @property
    def default(self) -> LayerResult | None:
        """Result of the default layer, None if it was not probed."""
        return next((x for x in self.layers if x.name == self.default_layer), None)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings common to all models: the classifier, and versions of the software."""

    classifier: str = "logistic regression (scikit-learn, lbfgs) on standardised features"
    penalty: float = PENALTY
    tolerance: float = TOLERANCE
    max_iterations: int = MAX_ITERATIONS
    versions: dict[str, str] = msgspec.field(default_factory=dict)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of a file of results."""

    settings: Settings
    results: tuple[ProbeResult, ...]


def write_results(path: Path, results: Sequence[ProbeResult]) -> None:
    """Write results as JSON.

    Raises:
        OutputError: The file cannot be written; no partial file is left.
    """
    report = Report(settings=Settings(versions=versions()), results=tuple(results))
    text = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"

    def write(temporary: Path) -> None:
        temporary.write_bytes(text)

    write_whole(path, write)


def read_results(path: Path) -> Report:
    """Read results written by `write_results`.

    Raises:
        AuricleError: The file is missing or not a file of results.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise AuricleError(f"cannot open {path}: {error.strerror}; check the path") from error
    except msgspec.MsgspecError as error:
        raise AuricleError(f"{path} holds no results of `auricle probe`: {error}") from error


def read_comparable_results(path: Path) -> tuple[ProbeResult, ...]:
    """Read results that are comparable to new ones: of the same classifier and versions.

    Raises:
        AuricleError: The file is not a file of results, or its settings differ.
    """
    report = read_results(path)
    own = Settings(versions=versions())
    if report.settings != own:
        raise AuricleError(
            f"the results in {path} were measured with {report.settings}, which those of this run, "
            f"{own}, cannot be compared to; choose another --out, or remove the file"
        )
    return report.results


def with_result(results: Sequence[ProbeResult], new: ProbeResult) -> list[ProbeResult]:
    """Results with a new one, which replaces that of the same model and task."""
    place = (new.model, new.task)
    replaced = [new if (old.model, old.task) == place else old for old in results]
    return replaced if new in replaced else [*replaced, new]


def versions() -> dict[str, str]:
    """Versions of the software that results depend on."""
    packages = ("torch", "numpy", "scikit-learn")
    own: str = import_module("auricle").__version__
    return {
        "auricle": own,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


NOTHING = "-"


def markdown_table(results: Sequence[ProbeResult]) -> list[str]:
    """Lines of a Markdown table: one row per model, its best and default layer for each task.

    Accuracies are in percent, followed by the name of the best layer. Models and tasks keep the
    order of their first result; missing results are a dash.
    """
    models = list(dict.fromkeys(result.model for result in results))
    tasks = list(dict.fromkeys(result.task for result in results))
    by_place = {(result.model, result.task): result for result in results}
    header = ["model", *(f"{task}, {which}" for task in tasks for which in ("best", "default"))]
    rows = [[f"`{m}`", *_cells(by_place, m, tasks)] for m in models]
    marks = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *rows)]


def _cells(
    by_place: dict[tuple[str, str], ProbeResult], model: str, tasks: Sequence[str]
) -> Iterator[str]:
    for task in tasks:
        result = by_place.get((model, task))
        if result is None:
            yield from (NOTHING, NOTHING)
            continue
        yield f"{percent(result.best.accuracy)} ({result.best.name})"
        yield NOTHING if result.default is None else percent(result.default.accuracy)


def layer_lines(result: ProbeResult) -> Iterator[str]:
    """Text lines of a result: one per layer, between a heading and the settings."""
    yield (
        f"{result.model}, {result.task}: {result.num_classes} labels, majority class "
        f"{percent(result.majority_accuracy)} %"
    )
    for layer in result.layers:
        marks = [
            mark
            for mark, holds in (
                ("best", layer is result.best),
                ("default", layer.name == result.default_layer),
                ("not converged", not layer.converged),
            )
            if holds
        ]
        yield (
            f"  {layer.name:<16}{layer.dim:>6} dims{percent(layer.accuracy):>7} %  "
            f"{', '.join(marks)}"
        ).rstrip()
    first = result.layers[0]
    step = "" if first.frame_step == 1 else f" (one frame in {first.frame_step})"
    yield (
        f"  mean of {len(result.folds)} fold(s) of {first.num_train:.0f} training and "
        f"{first.num_test:.0f} test examples{step}; {result.encoding_seconds:.0f} s to encode, "
        f"{result.fitting_seconds:.0f} s to fit"
    )
    if result.skipped_layers:
        yield f"  not probed: {', '.join(result.skipped_layers)}"


def percent(share: float) -> str:
    """Format a fraction in percent, with one decimal."""
    return f"{100 * share:.1f}"


def draw_layers(results: Sequence[ProbeResult]) -> Figure:
    """Figure of accuracy over layers, for one or more models on one task.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    curves = [
        Curve(
            model=result.model,
            layers=[layer.name for layer in result.layers],
            values=[100 * layer.accuracy for layer in result.layers],
            default_layer=result.default_layer,
        )
        for result in results
    ]
    title = f"{results[0].task}: linear probes of frozen layers"
    level = 100 * results[0].majority_accuracy
    return draw_curves(curves, title, "accuracy (%)", level, "majority class")


def read_folder(folder: Path) -> list[ProbeResult]:
    """Read the results of earlier runs, of all models and tasks; none if there is no folder.

    Raises:
        AuricleError: A file is not a file of results, or its settings differ.
    """
    paths = (folder / f"{task}.json" for task in TASKS)
    return [result for path in paths if path.exists() for result in read_comparable_results(path)]


def add_result(folder: Path, new: ProbeResult) -> None:
    """Add a result to a folder, replacing that of the same model and task.

    Rewrites TASK.json and TASK.png (accuracy over layers) with all models of its task, and table.md
    with all tasks.

    Raises:
        AuricleError: The folder holds results with other settings, matplotlib is missing, or a file
            cannot be written.
    """
    # Read again for every result, as another run may have added to the folder.
    results = with_result(read_folder(folder), new)
    of_task = [result for result in results if result.task == new.task]
    write_results(folder / f"{new.task}.json", of_task)
    save_figure(draw_layers(of_task), folder / f"{new.task}.png")
    text = "\n".join(markdown_table(results)) + "\n"
    write_whole(folder / "table.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
