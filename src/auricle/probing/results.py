"""Probing results: accuracies of layers and their settings, as JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import msgspec

from auricle.errors import AuricleError
from auricle.files.atomic import write_whole

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
    report = Report(settings=Settings(versions=_versions()), results=tuple(results))
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
    own = Settings(versions=_versions())
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


def _versions() -> dict[str, str]:
    packages = ("torch", "numpy", "scikit-learn")
    own: str = import_module("auricle").__version__
    return {
        "auricle": own,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
