"""Sources of the model cards: bundled weights, training logs, results of probes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

import auricle
from auricle.catalogue.record import Record
from auricle.catalogue.search import find, list_models
from auricle.errors import AuricleError
from auricle.files.safetensors import read_native
from auricle.hub.cache import embedded_path
from auricle.models.base import Encoder
from auricle.probing.abx_report import AbxResult, read_abx
from auricle.probing.report import ProbeResult, Settings, read_results

TASKS = ("phones", "words", "speakers")
BASELINES = ("fbank", "mel")
BASELINE = "fbank"
"""Baselines of the minis."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audio:
    """Training audio, from the metadata of the result."""

    utterances: int
    hours: float
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mini:
    """An embedded encoder, how it came to be and what its layers make easy to tell.

    `recipe`, `num_steps`, `audio` and `code_version` come from the metadata of its file, which has
    `num_bytes`; `weights_type` is the type of the weights in it. `metrics` are the lines of its
    training's log, `results` its probes by task, `note` is what was written about it by hand.
    """

    record: Record
    encoder: Encoder
    num_bytes: int
    weights_type: str
    recipe: str
    num_steps: int
    audio: Audio
    code_version: str
    metrics: Sequence[dict[str, float]]
    results: dict[str, ProbeResult]
    note: str = ""

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def has_heard_phones(self) -> bool:
        """Whether the utterances of the phone probe are part of its training audio."""
        return "none of those of the phone probe" not in (self.record.training_data or "")

    @property
    def recipe_stem(self) -> str:
        """Name of its recipe in `recipes/mini/`."""
        return self.name.removesuffix("_mini")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """All that goes into the cards: the minis in the catalogue's order, then the baselines.

    `abx` has the results of ABX in the same order; it is empty where none were measured.
    """

    minis: Sequence[Mini]
    baselines: dict[str, dict[str, ProbeResult]]
    settings: dict[str, Settings]
    abx: Sequence[AbxResult] = ()

    @property
    def results(self) -> list[ProbeResult]:
        """Every result, by model and then by task."""
        models = [*(mini.results for mini in self.minis), *self.baselines.values()]
        return [results[task] for results in models for task in TASKS]


def embedded_records() -> list[Record]:
    """The catalogue's records of encoders whose weights are in the package."""
    return [record for record in map(find, list_models()) if record.embedded]


def read_sources(
    folder: Path,
    records: Sequence[Record] | None = None,
    path_of: Callable[[Record], Path] = embedded_path,
) -> Sources:
    """Read what the cards in `folder` are made of; nothing where no encoder is embedded.

    Args:
        folder: Holds `training/NAME.jsonl`, `probes/TASK.json` and, where there is something to
            add by hand, `notes/NAME.md`.
        records: The encoders that get a card; None for all embedded ones.
        path_of: Where the weights of a record lie.

    Raises:
        AuricleError: A file is missing or is of another training or of other weights.
    """
    records = embedded_records() if records is None else records
    if not records:
        return Sources(minis=(), baselines={}, settings={})
    reports = {task: read_results(folder / "probes" / f"{task}.json") for task in TASKS}
    probes = {
        (result.model, task): result
        for task, report in reports.items()
        for result in report.results
    }
    return Sources(
        minis=[read_mini(record, path_of(record), folder, probes) for record in records],
        baselines={name: _of_model(probes, name, None) for name in BASELINES},
        settings={task: report.settings for task, report in reports.items()},
        abx=_read_abx(folder / "probes" / "abx.json", records),
    )


def _read_abx(path: Path, records: Sequence[Record]) -> Sequence[AbxResult]:
    """Results of ABX, of the records and then of the baselines; none without a file.

    Raises:
        AuricleError: One is missing or of other weights.
    """
    if not path.is_file():
        return ()
    found = {result.model: result for result in read_abx(path).results}
    expected = {record.name: record.sha256 for record in records}
    expected |= dict.fromkeys(BASELINES)
    for name, sha256 in expected.items():
        if name not in found or found[name].weights_sha256 != sha256:
            raise AuricleError(
                f"{path} has no result of {name} with the weights {sha256}; run "
                "`auricle probe --task abx` as docs/models/README.md says"
            )
    return [found[name] for name in expected]


def read_mini(
    record: Record, weights: Path, folder: Path, probes: dict[tuple[str, str], ProbeResult]
) -> Mini:
    """Read what is known of one encoder.

    Raises:
        AuricleError: A file is missing, or two of them do not belong together.
    """
    native = read_native(weights)
    metrics = _read_log(folder / "training" / f"{record.name}.jsonl")
    num_steps = int(native.extra["steps"])
    if metrics[-1]["step"] != num_steps:
        raise AuricleError(
            f"the log of {record.name} ends at step {metrics[-1]['step']:g}, but its weights are "
            f"of step {num_steps}; copy metrics.jsonl from the run that gave them"
        )
    note = folder / "notes" / f"{record.name}.md"
    return Mini(
        record=record,
        encoder=auricle.load(weights),
        num_bytes=weights.stat().st_size,
        weights_type=_weights_type(native.weights),
        recipe=native.extra["recipe"],
        num_steps=num_steps,
        audio=Audio(**json.loads(native.extra["audio"])),
        code_version=native.extra["code_version"],
        metrics=metrics,
        results=_of_model(probes, record.name, record.sha256),
        note=note.read_text(encoding="utf-8").strip() if note.is_file() else "",
    )


def _weights_type(weights: Mapping[str, Tensor]) -> str:
    types = {str(w.dtype).removeprefix("torch.") for w in weights.values() if w.is_floating_point()}
    return ", ".join(sorted(types))


def _read_log(path: Path) -> list[dict[str, float]]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise AuricleError(
            f"cannot read {path}: {error}; copy metrics.jsonl of the run there"
        ) from error
    if not lines:
        raise AuricleError(f"{path} is empty; copy metrics.jsonl of the run there")
    return lines


def _of_model(
    probes: dict[tuple[str, str], ProbeResult], model: str, sha256: str | None
) -> dict[str, ProbeResult]:
    """A model's results by task, all of them of the weights with this digest."""
    missing = [task for task in TASKS if (model, task) not in probes]
    if missing:
        raise AuricleError(
            f"{model} has no results for {', '.join(missing)}; run `auricle probe` as "
            "docs/models/README.md says, with all models at once"
        )
    results = {task: probes[model, task] for task in TASKS}
    for task, result in results.items():
        if result.weights_sha256 != sha256:
            raise AuricleError(
                f"the results of {model} for {task} are of the weights {result.weights_sha256}, "
                f"but it has {sha256}; probe it again"
            )
    return results
