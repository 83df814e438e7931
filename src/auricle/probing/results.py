"""What a probe finds: the accuracy of each layer and how it was measured, read and written."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import msgspec

from auricle.errors import AuricleError
from auricle.files.atomic import write_whole
from auricle.probing.classifier import MAX_ITERATIONS, PENALTY, TOLERANCE


class LayerResult(msgspec.Struct, frozen=True, kw_only=True):
    """One layer. Accuracies are shares of test examples, from 0 to 1.

    Attributes:
        name: Of the layer.
        dim: Its width.
        hop_samples: From one frame to the next.
        accuracy: Mean over the folds.
        fold_accuracies: Of each fold, in the task's order.
        num_examples: Frames or utterances of all folds together.
        num_train: Training examples, mean over the folds.
        num_test: Test examples, mean over the folds.
        frame_step: Every so many frames were kept.
        converged: Whether the solver was done in every fold.
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
    """One model on one task.

    Attributes:
        model: What the user called it.
        family: Of the model.
        num_parameters: Of the encoder.
        weights_sha256: Digest of the file of weights in hex; None for a baseline, and where the
            encoder does not know it, as of a file that was named by its path.
        task: Name of the task.
        folds: Names of the folds.
        seed: Of the task.
        num_classes: Distinct labels.
        majority_accuracy: Of always saying the most frequent label, mean over the folds.
        default_layer: The layer that a plain call of the encoder returns.
        layers: In order of depth.
        skipped_layers: Layers that were not probed: too dense, or not asked for.
        encoding_seconds: Time that reading and encoding took.
        fitting_seconds: Time that the classifiers took.
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
        """The layer of the highest accuracy on the test, the first of equals."""
        return max(self.layers, key=lambda layer: layer.accuracy)

    @property
    def default(self) -> LayerResult | None:
        """The default layer, None where it was not probed."""
        return next((x for x in self.layers if x.name == self.default_layer), None)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every model: the classifier and the versions of what ran."""

    classifier: str = "logistic regression (scikit-learn, lbfgs) on standardised features"
    penalty: float = PENALTY
    tolerance: float = TOLERANCE
    max_iterations: int = MAX_ITERATIONS
    versions: dict[str, str] = msgspec.field(default_factory=dict)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A file of results."""

    settings: Settings
    results: tuple[ProbeResult, ...]


def write_results(path: Path, results: Sequence[ProbeResult]) -> None:
    """Write results as JSON.

    Raises:
        OutputError: The file cannot be written; nothing half-written is left.
    """
    report = Report(settings=Settings(versions=_versions()), results=tuple(results))
    text = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"

    def write(temporary: Path) -> None:
        temporary.write_bytes(text)

    write_whole(path, write)


def read_results(path: Path) -> Report:
    """Read what `write_results` wrote.

    Raises:
        AuricleError: The file is missing or is none of those.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise AuricleError(f"cannot open {path}: {error.strerror}; check the path") from error
    except msgspec.MsgspecError as error:
        raise AuricleError(f"{path} holds no results of `auricle probe`: {error}") from error


def read_comparable_results(path: Path) -> tuple[ProbeResult, ...]:
    """Results that new ones may stand beside: of the same classifier and the same versions.

    Raises:
        AuricleError: The file is none of results, or they were measured in another way.
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
    """Results with a new one, in the place of one of the same model and task if there is one."""
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
