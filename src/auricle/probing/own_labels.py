"""Tasks of one's own labels: of files, segments or frames, with the folds that test them."""

from __future__ import annotations

import dataclasses
import logging
import os
import unicodedata
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
from auricle.corpus.reading import audio_digest
from auricle.corpus.utterance import Utterance
from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.probing.features import check_folds, check_values
from auricle.probing.items import read_aligned
from auricle.probing.tasks import Fold, Task, check_files, draw_folds

if TYPE_CHECKING:
    from auricle.probing.own_report import LabelsReport

logger = logging.getLogger(__name__)

NUM_FOLDS = 5

NUM_SEEDS = 3
"""Times that the folds are drawn again; their scores are averaged."""

FRAME_SHIFT_SECONDS = 0.01
"""Kaldi's default; chain models align every third frame."""

DEV_SPLITS = ("dev", "val", "valid", "validation")

SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(DEV_SPLITS, "dev")
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
        audio_sha256: Digest of the audio files.
    """

    task: Task
    units: tuple[str, ...]
    unit: str
    split: str
    is_regression: bool
    audio_sha256: str = ""


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
    if num_seeds < 1 or seed < 0 or frame_shift_seconds <= 0:
        raise AuricleError(
            f"got {num_seeds} seeds from {seed} and a frame shift of {frame_shift_seconds:g} s; "
            "expected 1 or more seeds, from 0 or more, and more than 0 s"
        )
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
    labelled = [
        [part.label for part in one.segments] if target is None else [one.labels[target]]
        for one in utterances
    ]
    check_values([label for each in labelled for label in each], where, is_regression)
    if group is not None and group.strip().lower() == target:
        raise AuricleError(
            f"--group names the column of the labels, {group!r}, so that no label of a test would "
            "be in its training; name another column"
        )
    unit, units = _units(utterances, group, where)
    split = _by_column(utterances, units, group, where)
    if split is None:
        split = draw_folds(
            units,
            [one.labels[target] for one in utterances] if target and not is_regression else None,
            unit=unit,
            is_grouped=unit != UTTERANCE or len(set(units)) < len(units),
            num_folds=num_folds,
            seeds=range(seed, seed + num_seeds),
        )
        if unit in (UTTERANCE, RECORDING):
            _log_groups(utterances, target)
    folds, description = split
    if not is_regression:
        check_folds(folds, labelled, where)
    name = target or "frames"
    task = Task(name=name, utterances=tuple(utterances), folds=folds, target=target, seed=seed)
    return OwnTask(
        task=task,
        units=tuple(units),
        unit=unit,
        split=description,
        is_regression=is_regression,
        audio_sha256=audio_digest(utterances),
    )


def _from_table(labels: str | Path, inputs: Sequence[str | Path], column: str) -> list[Utterance]:
    """Utterances, or parts of them, with the cells of their rows as labels."""
    rows = label_rows(str(labels))
    columns = list(dict.fromkeys(name for row in rows for name in row.labels))
    if column not in columns:
        raise AuricleError(
            f"{labels} has no column {column!r}, but {', '.join(columns)}; name that of the "
            "labels, texts or numbers, with --label-column (in Python label_column=), one at a time"
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
        place = (_recording(one), one.start, one.seconds, one.channel)
        other = places.setdefault(place, one)
        if other is not one:
            texts = f"{other.labels[column]!r} and {one.labels[column]!r}"
            raise AuricleError(
                f"{labels} labels {one.origin} twice, as {texts}: leave one row of it; segments of "
                "a file need columns start and end"
            )
    return [
        dataclasses.replace(one, labels={**one.labels, column: _plain(one.labels[column])})
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
    # Segments are named by their recordings.
    firsts = list({_recording(one): one for one in reversed(utterances)}.values())
    cells: dict[str, dict[str, str]] = {}
    for place, row in zip(places_of_rows(firsts, rows, str(table)), rows, strict=True):
        if place is None:
            continue
        new = {name: cell for name, cell in row.labels.items() if name != target}
        old = cells.setdefault(_recording(firsts[place]), new)
        if differing := [name for name in new if new[name] != old.get(name)]:
            raise AuricleError(
                f"{table}, line {row.line}: {row.path or row.id!r} has another {differing[0]} than "
                "in a line before: leave one of them"
            )
    lacking = [one.id for one in utterances if _recording(one) not in cells]
    if lacking:
        raise AuricleError(
            f"{table} lacks {len(lacking)} of {len(utterances)} labelled utterances, the first "
            f"{lacking[0]!r}; expected a row for each"
        )
    return [
        dataclasses.replace(one, labels={**one.labels, **cells[_recording(one)]})
        for one in utterances
    ]


def _recording(one: Utterance) -> str:
    """The recording that an utterance is of, whatever path or link names it."""
    source = os.path.realpath(one.source) if one.container == "file" else one.source
    return f"{source}:{one.member}"


def _plain(text: str) -> str:
    """A label or group without blanks around it, in Unicode's composed form."""
    return unicodedata.normalize("NFC", text).strip()


def _units(utterances: Sequence[Utterance], group: str | None, where: str) -> tuple[str, list[str]]:
    """Name of the independent unit of each utterance, and what these are."""
    columns = list(dict.fromkeys(name for one in utterances for name in one.labels))
    name = None if group is None else group.strip().lower()
    recordings = [_recording(one) for one in utterances]
    if name is None and len(set(recordings)) < len(utterances):
        return RECORDING, recordings
    if name is None or (name == UTTERANCE and name not in columns):
        return UTTERANCE, [f"{one.id} {index}" for index, one in enumerate(utterances)]
    if name not in columns:
        raise AuricleError(
            f"{where} has no column {name!r} for --group (in Python group=), but "
            f"{', '.join(columns) or 'none'}; frame labels take it from --splits TABLE"
        )
    lacking = [one.id for one in utterances if _plain(one.labels.get(name, "")).lower() in MISSING]
    if lacking:
        raise AuricleError(
            f"{len(lacking)} of {len(utterances)} labelled utterances have no value in the column "
            f"{name!r} of --group, the first {lacking[0]!r}: fill it in"
        )
    return name, [_plain(one.labels[name]) for one in utterances]


def _by_column(
    utterances: Sequence[Utterance], units: Sequence[str], group: str | None, where: str
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
    if shared and group is not None:
        raise AuricleError(
            f"the column split of {where} has {len(shared)} values of {group} in train and test, "
            f"such as {min(shared)!r}: correct it, or leave out --group"
        )
    if shared:
        logger.warning("%d recordings have segments in train and in test", len(shared))
    if others := len(kinds) - len(train) - len(test):
        logger.warning("%d utterances of the split dev are not used", others)
    fold = Fold(name="test", train=train, test=test)
    return (fold,), f"the column split: {len(train)} to train on, {len(test)} to test"


def _log_groups(utterances: Sequence[Utterance], target: str | None) -> None:
    """Log a column by which the folds might have to be grouped, and are not."""
    columns = {name for one in utterances for name in one.labels} - {target}
    found = next((name for name in GROUP_COLUMNS if name in columns), None)
    if found is not None:
        advice = f"--group {found} keeps them apart"
        logger.warning("utterances of one %s may be in training and test; %s", found, advice)


def probe_labels(
    labels: str | Path,
    inputs: str | Path | Sequence[str | Path] = (),
    *,
    models: str | Path | Encoder | Sequence[str | Path | Encoder],
    layers: Sequence[int | str] | str | None = None,
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
        layers: Names or indices; None or "all" for all with a hop of 5 ms or more.
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
    several = [models] if isinstance(models, str | Path | Encoder) else models
    named = [(str(one) if isinstance(one, str | Path) else one.info.name, one) for one in several]
    if not named or len(dict(named)) < len(named):
        names = ", ".join(name for name, _ in named) or "none"
        raise AuricleError(f"the models are {names}; expected one or more, of different names")
    encoders = (
        (name, load(name, device=device) if isinstance(one, str | Path) else one)
        for name, one in named
    )
    chosen = None if layers in ("all", ["all"]) else [layers] if isinstance(layers, str) else layers
    results = probe_models(
        own, encoders, layers=chosen or None, out=None if out is None else Path(out)
    )
    return LabelsReport(settings=settings_of(own), results=tuple(one for one, _ in results))
