"""Tasks of one's own labels: of files, segments or frames, with the folds that test them."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.corpus.listing import (
    JSON_SUFFIXES,
    TABLE_SUFFIXES,
    label_rows,
    list_utterances,
    places_of_rows,
    refuse_problems,
    with_labels,
)
from auricle.corpus.utterance import Utterance
from auricle.errors import AuricleError
from auricle.probing.items import read_aligned
from auricle.probing.tasks import Fold, Task, check_files, draw_folds

if TYPE_CHECKING:
    from auricle.models.base import Encoder
    from auricle.probing.own_report import LabelsReport

logger = logging.getLogger(__name__)

NUM_FOLDS = 5

NUM_SEEDS = 3
"""Times that the folds are drawn again; their scores are averaged."""

FRAME_SHIFT_SECONDS = 0.01
"""Kaldi's default; chain models align every third frame."""

MAX_NUMERIC_CLASSES = 20
"""Most different numbers that are taken for classes without a remark."""

SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("dev", "val", "validation"), "dev")
"""Values of a column of splits, in lower case."""

GROUP_COLUMNS = ("speaker", "speaker_id", "spk", "spk_id", "client_id", "session", "recording")
"""Columns that suggest --group."""

UTTERANCE, RECORDING = "utterance", "recording"
"""Units without a column: each row alone, or all segments of a file."""

MISSING = frozenset({"", "nan", "<na>"})
"""Labels that are none, in lower case."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnTask:
    """Task of one's own labels.

    Attributes:
        task: Utterances, labels and folds: those of the first seed, then those of the next.
        units: Name of the independent unit of each utterance, which intervals resample.
        unit: What the units are: "utterance", "recording" or the column of the groups.
        split: Description of the split, for reports.
        is_regression: True if labels are numbers to predict, not classes.
    """

    task: Task
    units: tuple[str, ...]
    unit: str
    split: str
    is_regression: bool


def read_own_task(
    labels: str | Path,
    inputs: Sequence[str | Path] = (),
    *,
    column: str = "label",
    is_regression: bool = False,
    tier: str | None = None,
    frame_shift_seconds: float = FRAME_SHIFT_SECONDS,
    splits: str | Path | None = None,
    group: str | None = None,
    num_folds: int = NUM_FOLDS,
    num_seeds: int = NUM_SEEDS,
    seed: int = 0,
) -> OwnTask:
    """Read labels of one's own and draw the folds; `auricle.probe_labels` has the arguments.

    Raises:
        AuricleError: Labels or audio cannot be read, do not fit each other, or allow no folds.
        MissingExtraError: A file needs a package that is not installed.
    """
    target: str | None = None
    if str(labels).lower().endswith(TABLE_SUFFIXES + JSON_SUFFIXES):
        if tier is not None:
            raise AuricleError(f"{labels} is a table and has no tiers: leave out --tier (tier=)")
        target = column.strip().lower()
        utterances = _from_table(labels, inputs, target)
    else:
        listed = _listed(inputs, labels)
        utterances, unknown = read_aligned(
            Path(labels), listed, tier=tier, shift_seconds=frame_shift_seconds
        )
        _log_unlabelled(len(listed) - len(utterances), len(listed))
        if unknown:
            logger.warning("%d labels, such as %r, have no audio", len(unknown), unknown[0])
    if splits is not None:
        utterances = _with_splits(utterances, splits, target)
    where = str(labels)
    check_files(utterances, where)
    labelled = [one.segments if target is None else [one.labels[target]] for one in utterances]
    values = [one if isinstance(one, str) else one.label for each in labelled for one in each]
    _check_values(values, where, is_regression)
    if group is not None and group.strip().lower() == target:
        raise AuricleError(
            f"--group names the column of the labels, {group!r}, so that no label of a test would "
            "be in its training; name another column"
        )
    unit, units = _units(utterances, group, where)
    split = _by_column(utterances, units, unit, where)
    if split is None:
        split = draw_folds(
            units,
            [one.labels[target] for one in utterances] if target and not is_regression else None,
            unit=unit,
            is_grouped=unit != UTTERANCE,
            num_folds=num_folds,
            seeds=range(seed, seed + num_seeds),
        )
        _log_groups(utterances, target, unit)
    folds, description = split
    name = target or "frames"
    task = Task(name=name, utterances=tuple(utterances), folds=folds, target=target, seed=seed)
    return OwnTask(
        task=task,
        units=tuple(units),
        unit=unit,
        split=description,
        is_regression=is_regression,
    )


def _from_table(labels: str | Path, inputs: Sequence[str | Path], column: str) -> list[Utterance]:
    """Utterances, or parts of them, with the cells of their rows as labels."""
    rows = label_rows(str(labels))
    columns = list(dict.fromkeys(name for row in rows for name in row.labels))
    if column not in columns:
        raise AuricleError(
            f"{labels} has no column {column!r}, but {', '.join(columns)}; name that of the labels "
            "with --label-column (in Python label_column=), one at a time"
        )
    empty = [row for row in rows if row.labels.get(column, "").strip().lower() in MISSING]
    if empty:
        raise AuricleError(
            f"{labels} has {len(empty)} of {len(rows)} rows without a value (empty or NaN) in "
            f"{column!r}, the first in line {empty[0].line}: fill them in, or delete these rows"
        )
    if inputs or not all(row.path for row in rows):
        listed = _listed(inputs, labels)
        utterances, num_unlabelled = with_labels(listed, rows, str(labels))
        _log_unlabelled(num_unlabelled, len(listed))
    else:
        listing = list_utterances([str(labels)], with_labels=True, is_strict=False)
        refuse_problems(listing)
        utterances = listing.utterances
    places: dict[tuple[object, ...], Utterance] = {}
    for one in utterances:
        place = (one.source, one.member, one.start, one.seconds, one.channel)
        other = places.setdefault(place, one)
        if other is not one:
            texts = f"{other.labels[column]!r} and {one.labels[column]!r}"
            raise AuricleError(
                f"{labels} labels {one.origin} twice, as {texts}: leave one row of it; segments of "
                "a file need columns start and end"
            )
    return [
        dataclasses.replace(one, labels={**one.labels, column: one.labels[column].strip()})
        for one in utterances
    ]


def _listed(inputs: Sequence[str | Path], labels: str | Path) -> list[Utterance]:
    if not inputs:
        raise AuricleError(
            f"{labels} has no paths of audio: pass the audio too, as in `auricle probe audio/ "
            f"--labels {labels}` (in Python inputs=)"
        )
    listing = list_utterances([str(one) for one in inputs], with_labels=True, is_strict=False)
    refuse_problems(listing)
    return listing.utterances


def _log_unlabelled(num: int, num_all: int) -> None:
    if num:
        logger.warning("%d of %d utterances have no label and are left out", num, num_all)


def _with_splits(
    utterances: Sequence[Utterance], table: str | Path, target: str | None
) -> list[Utterance]:
    """Utterances with the cells of a table of splits or groups as labels, all but the target."""
    rows = label_rows(str(table))
    cells: dict[int, dict[str, str]] = {}
    for place, row in zip(places_of_rows(utterances, rows, str(table)), rows, strict=True):
        if place is not None:
            cells[place] = {name: cell for name, cell in row.labels.items() if name != target}
    lacking = [one.id for index, one in enumerate(utterances) if index not in cells]
    if lacking:
        raise AuricleError(
            f"{table} lacks {len(lacking)} of {len(utterances)} labelled utterances, the first "
            f"{lacking[0]!r}; expected a row for each"
        )
    return [
        dataclasses.replace(one, labels={**one.labels, **cells[index]})
        for index, one in enumerate(utterances)
    ]


def _check_values(values: Sequence[str], where: str, is_regression: bool) -> None:
    """Check that labels are two classes or more, or numbers, as the task needs them.

    Raises:
        AuricleError: They are not, or classes look like numbers to predict.
    """
    counts = Counter(values)
    numbers = {value: _number(value) for value in counts}
    wrong = [value for value, number in numbers.items() if number is None]
    if is_regression and wrong:
        raise AuricleError(
            f"{where} has {sum(counts[value] for value in wrong)} labels that are no finite "
            f"numbers, such as {wrong[0]!r}; --regression (in Python regression=True) needs "
            "numbers: correct them, or leave it out to predict classes"
        )
    if len(counts) < 2:
        raise AuricleError(
            f"{where} has {len(values)} labels of {len(counts)} value(s), "
            f"{next(iter(counts), '')!r}; expected 2 or more to tell apart"
        )
    if is_regression or wrong or len(counts) <= MAX_NUMERIC_CLASSES:
        return
    are_whole = all(number is None or number.is_integer() for number in numbers.values())
    if not are_whole or 2 * len(counts) > len(values):
        raise AuricleError(
            f"{where} has {len(counts)} different numbers as {len(values)} labels, such as "
            f"{values[0]}; pass --regression (in Python regression=True) to predict numbers, or "
            "write them as text, such as 'class 7', to take each for a class"
        )
    logger.warning("%d numbers are taken for classes; --regression predicts them", len(counts))


def _number(text: str) -> float | None:
    """A text as a finite number; None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _units(utterances: Sequence[Utterance], group: str | None, where: str) -> tuple[str, list[str]]:
    """Name of the independent unit of each utterance, and what these are."""
    columns = list(dict.fromkeys(name for one in utterances for name in one.labels))
    name = None if group is None else group.strip().lower()
    if name is None and len({one.origin for one in utterances}) < len(utterances):
        return RECORDING, [one.origin for one in utterances]
    if name is None or (name == UTTERANCE and name not in columns):
        return UTTERANCE, [f"{one.id} {index}" for index, one in enumerate(utterances)]
    if name not in columns:
        raise AuricleError(
            f"{where} has no column {name!r} for --group (in Python group=), but "
            f"{', '.join(columns) or 'none'}; frame labels take it from --splits TABLE"
        )
    lacking = [one.id for one in utterances if one.labels.get(name, "").lower() in MISSING]
    if lacking:
        raise AuricleError(
            f"{len(lacking)} of {len(utterances)} labelled utterances have no value in the column "
            f"{name!r} of --group, the first {lacking[0]!r}: fill it in"
        )
    return name, [one.labels[name] for one in utterances]


def _by_column(
    utterances: Sequence[Utterance], units: Sequence[str], unit: str, where: str
) -> tuple[tuple[Fold, ...], str] | None:
    """The fold that a column `split` states, and its description; None without the column."""
    texts = [one.labels.get("split", "").strip() for one in utterances]
    if not any("split" in one.labels for one in utterances):
        return None
    unknown = [text for text in texts if text.lower() not in SPLITS]
    if unknown:
        raise AuricleError(
            f"{where} has {len(unknown)} rows with another split than train, test or dev, such as "
            f"{unknown[0]!r}: correct them, or rename the column to draw folds"
        )
    kinds = [SPLITS[text.lower()] for text in texts]
    train, test = (
        tuple(index for index, kind in enumerate(kinds) if kind == wanted)
        for wanted in ("train", "test")
    )
    if not (train and test):
        raise AuricleError(
            f"the column split of {where} has {len(train)} rows of train and {len(test)} of test; "
            "expected some of both"
        )
    shared = {units[index] for index in train} & {units[index] for index in test}
    if shared and unit != RECORDING:
        raise AuricleError(
            f"the column split of {where} has {len(shared)} values of {unit} in train and test, "
            f"such as {min(shared)!r}: correct it, or leave out --group"
        )
    if shared:
        logger.warning("%d recordings have segments in train and in test", len(shared))
    if others := len(kinds) - len(train) - len(test):
        logger.warning("%d utterances of the split dev are not used", others)
    fold = Fold(name="test", train=train, test=test)
    return (fold,), f"the column split: {len(train)} to train on, {len(test)} to test"


def _log_groups(utterances: Sequence[Utterance], target: str | None, unit: str) -> None:
    """Log a column by which the folds might have to be grouped, and are not."""
    columns = {name for one in utterances for name in one.labels} - {target}
    found = next((name for name in GROUP_COLUMNS if name in columns), None)
    if found is not None and unit in (UTTERANCE, RECORDING):
        advice = f"--group {found} keeps them apart"
        logger.warning("utterances of one %s may be in training and test; %s", found, advice)


def probe_labels(
    labels: str | Path,
    inputs: str | Path | Sequence[str | Path] = (),
    *,
    models: str | Sequence[str | Encoder],
    layers: Sequence[int | str] | None = None,
    label_column: str = "label",
    regression: bool = False,
    tier: str | None = None,
    frame_shift_seconds: float = FRAME_SHIFT_SECONDS,
    splits: str | Path | None = None,
    group: str | None = None,
    folds: int = NUM_FOLDS,
    seeds: int = NUM_SEEDS,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
) -> LabelsReport:
    """Probe layers of encoders with labels of one's own; the same seed gives the same result.

    Args:
        labels: A table (`.csv`, `.tsv`, `.parquet`, `.jsonl`, `.json`) of labels by path or id, of
            segments with `start` and `end`; or labels of frames: a folder of `.TextGrid` and `.ctm`
            files, a `.ctm`, or a text of Kaldi's with the ids of all frames.
        inputs: The audio, as `auricle.extract` takes it; a table with paths needs none.
        models: Names or paths as of `auricle.load`, or encoders.
        layers: Names or indices; None for all with a hop of 5 ms or more.
        label_column: Column of the labels.
        regression: Predict numbers by ridge regression, not classes.
        tier: Tier of the TextGrids.
        frame_shift_seconds: Time from one frame of a text of Kaldi's to the next.
        splits: Table with a column `split`, or with groups, for labels that have none.
        group: Column of which no value is in training and test at once, such as the speaker.
        folds: Parts that are tested by what is trained on the others; not used with a column
            `split` (train, test, dev).
        seeds: Times that folds are drawn.
        seed: First of their seeds.
        device: As of `auricle.load`.
        out: Folder for `results.json` and a picture, in which a run that was killed goes on.

    Raises:
        AuricleError: Labels, audio, a model or a layer is wrong, or results cannot be written.
        MissingExtraError: scikit-learn, or a package for one of the files, is not installed.
    """
    from auricle.hub.load import load
    from auricle.probing.own_report import LabelsReport, probe_models, settings_of
    from auricle.probing.probe import check_classifier

    check_classifier()
    own = read_own_task(
        labels,
        [inputs] if isinstance(inputs, str | Path) else inputs,
        column=label_column,
        is_regression=regression,
        tier=tier,
        frame_shift_seconds=frame_shift_seconds,
        splits=splits,
        group=group,
        num_folds=folds,
        num_seeds=seeds,
        seed=seed,
    )
    encoders = (
        (one, load(one, device=device)) if isinstance(one, str) else (one.info.name, one)
        for one in ([models] if isinstance(models, str) else models)
    )
    results = probe_models(own, encoders, layers=layers, out=None if out is None else Path(out))
    return LabelsReport(settings=settings_of(own), results=tuple(one for one, _ in results))
