"""Probing tasks: utterances, their labels, and the folds of training and test."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from auricle.corpus.labels import exceeds, read_segments, read_table
from auricle.corpus.listing import is_listed_folder, list_utterances, refuse_problems
from auricle.corpus.utterance import Segment, Utterance
from auricle.errors import AuricleError
from auricle.optional import optional

LABEL_FRAMES_PER_SECOND = 100
"""Rate of the phone labels, in frames of 10 ms."""

NUM_HALVINGS = 5
"""Random splits of each speaker's utterances into halves; a single one is a noisy estimate."""

DATA = {
    "phones": "a folder with phones.tsv (columns path, phone, start_frame_10ms, frames) and "
    "manifest.tsv (path, speaker), or a table with the columns path and speaker, with a "
    ".TextGrid or .ctm beside each audio file",
    "words": "a folder with manifest.tsv, or a table, with the columns path, split (train or "
    "test) and word",
    "speakers": "a folder with manifest.tsv (columns path, split, which is speakers, and speaker), "
    "or a table with the columns path and speaker",
}
"""Files and columns that each task needs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fold:
    """Indices of training and test utterances of a task, which are disjoint."""

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        if set(self.train) & set(self.test):
            raise ValueError(f"fold {self.name} tests utterances that it trains on")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Utterances, labels and folds drawn by `seed`.

    `target` names the label of an utterance that is predicted; None where `segments` label frames.
    """

    name: str
    utterances: tuple[Utterance, ...]
    folds: tuple[Fold, ...]
    target: str | None
    seed: int = 0

    @property
    def labels_frames(self) -> bool:
        """True if frames have labels, not whole utterances."""
        return self.target is None


def read_task(name: str, data: str | Path, *, seed: int = 0) -> Task:
    """Read a task from its corpus; `docs/probing.md` describes the labels that it needs.

    Args:
        name: One of `TASKS`.
        data: The folder of the corpus (`librispeech` for phones and speakers, `arabic_words` for
            words), the folder that holds it under this name, or any input of `auricle.extract`
            whose list has the labels as columns.
        seed: Seed of the random splits of a speaker's utterances.

    Raises:
        AuricleError: There is no such task, or the corpus is not complete.
        MissingExtraError: The input needs a package that is not installed.
    """
    if name not in TASKS:
        raise AuricleError(f"there is no task {name!r}; expected one of {', '.join(TASKS)}")
    return dataclasses.replace(TASKS[name](data, seed), seed=seed)


def _read_phones(data: str | Path, seed: int) -> Task:
    """Phone task: leave-one-speaker-out folds."""
    del seed  # nothing is random
    where, utterances = read_phones(data)
    groups = _indices_by([one.labels["speaker"] for one in utterances])
    if len(groups) < 2:
        raise AuricleError(
            f"{where} has phones of {len(groups)} speaker, but each is tested by what is trained "
            "on the others; expected 2 or more"
        )
    everything = range(len(utterances))
    folds = tuple(
        Fold(
            name=f"speaker {speaker}",
            train=tuple(index for index in everything if index not in set(test)),
            test=tuple(test),
        )
        for speaker, test in groups.items()
    )
    return Task(name="phones", utterances=tuple(utterances), folds=folds, target=None)


def read_phones(data: str | Path) -> tuple[str | Path, list[Utterance]]:
    """Utterances with the label `speaker` and their phones as segments; the list that names them.

    Raises:
        AuricleError: The corpus is not complete.
        MissingExtraError: The input needs a package that is not installed.
    """
    if not is_list(data):
        table = find_table("phones", Path(data), "phones.tsv", "librispeech")
        return table, _with_phones(table)
    return data, [
        dataclasses.replace(one, segments=in_order(one.source, _segments_beside(one)))
        for one in _labelled(data, ("speaker",))
    ]


def _with_phones(table: Path) -> list[Utterance]:
    """The utterances that a table has phones of, as the manifest beside it lists them."""
    segments: dict[str, list[Segment]] = defaultdict(list)
    for row in read_table(table, ("path", "phone", "start_frame_10ms", "frames")):
        segments[row["path"]].append(_segment(table, row))
    manifest = table.parent / "manifest.tsv"
    listed = {one.labels["path"]: one for one in _labelled(manifest, ("path", "speaker"))}
    unknown = [path for path in segments if path not in listed]
    if unknown:
        raise AuricleError(f"{manifest} lacks {unknown[0]}, which {table} has phones of")
    utterances = [
        dataclasses.replace(listed[path], segments=in_order(path, segments[path]))
        for path in sorted(segments)
    ]
    check_files(utterances, table)
    return utterances


def _segments_beside(utterance: Utterance) -> list[Segment]:
    """Phones in the .TextGrid or .ctm beside the file of an utterance."""
    source = Path(utterance.source)
    found = [
        path for suffix in (".TextGrid", ".ctm") if (path := source.with_suffix(suffix)).is_file()
    ]
    is_whole = utterance.container == "file" and utterance.start == 0 and utterance.seconds is None
    if not found or not is_whole:
        raise AuricleError(
            f"{utterance.id} has no phones: expected {source.with_suffix('.TextGrid')} or .ctm "
            "beside a whole file, or a folder with phones.tsv"
        )
    return list(read_segments(found[0], source.name, channel=utterance.channel))


def _segment(table: Path, row: dict[str, str]) -> Segment:
    start, frames = row["start_frame_10ms"], row["frames"]
    if not (start.isdecimal() and frames.isdecimal() and int(frames) > 0):
        raise AuricleError(
            f"{table}: {row['path']} has a phone that starts at {start!r} and lasts {frames!r}; "
            "expected whole numbers of frames"
        )
    return Segment(
        label=row["phone"],
        start=int(start) / LABEL_FRAMES_PER_SECOND,
        end=(int(start) + int(frames)) / LABEL_FRAMES_PER_SECOND,
    )


def in_order(path: str, segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """The segments of a recording by their start.

    Raises:
        AuricleError: Two of them overlap; `path` is the recording in the message.
    """
    ordered = sorted(segments, key=lambda segment: segment.start)
    for before, after in pairwise(ordered):
        if exceeds(before.end, after.start):
            raise AuricleError(
                f"{path} has labels that overlap at {after.start:g} s: {before.label} and "
                f"{after.label}"
            )
    return tuple(ordered)


def _read_words(data: str | Path, seed: int) -> Task:
    """Word task: the train and test splits of the manifest, whose speakers differ.

    The split `val` is left for tuning.
    """
    del seed  # nothing is random
    where = data
    if not is_list(data):
        where = find_table("words", Path(data), "manifest.tsv", "arabic_words")
    utterances = [
        one
        for one in _labelled(where, ("split", "word"))
        if one.labels["split"] in ("train", "test")
    ]
    splits = _indices_by([one.labels["split"] for one in utterances])
    if len(splits) < 2:
        raise AuricleError(f"{where} has no rows of both splits, train and test")
    check_files(utterances, where)
    fold = Fold(name="test", train=tuple(splits["train"]), test=tuple(splits["test"]))
    return Task(name="words", utterances=tuple(utterances), folds=(fold,), target="word")


def _read_speakers(data: str | Path, seed: int) -> Task:
    """Speaker task: each half of every speaker's utterances is the test set in turn."""
    import torch

    if is_list(data):
        where, listed = data, _labelled(data, ("speaker",))
        has_split = any(one.labels.get("split") == "speakers" for one in listed)
    else:
        where = find_table("speakers", Path(data), "manifest.tsv", "librispeech")
        listed, has_split = _labelled(where, ("split", "speaker")), True
    utterances = [one for one in listed if not has_split or one.labels["split"] == "speakers"]
    utterances.sort(key=lambda one: (one.source, one.member, one.start))
    groups = _indices_by([one.labels["speaker"] for one in utterances])
    if len(groups) < 2 or min(map(len, groups.values())) < 2:
        raise AuricleError(
            f"{where} has {len(utterances)} rows of split speakers by {len(groups)} speakers; "
            "expected 2 or more speakers with 2 or more utterances each"
        )
    check_files(utterances, where)
    generator = torch.Generator().manual_seed(seed)
    folds = []
    for number in range(1, NUM_HALVINGS + 1):
        halves: tuple[list[int], list[int]] = ([], [])
        for group in groups.values():
            order = torch.randperm(len(group), generator=generator).tolist()
            for place, index in enumerate(order):
                halves[place % 2].append(group[index])
        one, other = (tuple(sorted(half)) for half in halves)
        folds.append(Fold(name=f"halving {number}, one way", train=one, test=other))
        folds.append(Fold(name=f"halving {number}, other way", train=other, test=one))
    return Task(name="speakers", utterances=tuple(utterances), folds=tuple(folds), target="speaker")


def draw_folds(
    units: Sequence[str],
    classes: Sequence[str] | None,
    *,
    unit: str,
    is_grouped: bool,
    num_folds: int,
    seeds: Sequence[int],
) -> tuple[tuple[Fold, ...], str]:
    """Draw folds of utterances with each seed: every utterance is tested once a seed.

    Args:
        units: Unit of each utterance; where `is_grouped`, all of one are tested together.
        classes: Label of each utterance, whose shares the folds are to keep; None for no such.
        unit: What the units are, in messages.
        is_grouped: Whether several utterances may be of one unit.
        num_folds: Parts, each tested by what is trained on the others.
        seeds: Seeds of the draws.

    Returns:
        The folds, and a description of them.

    Raises:
        AuricleError: There are fewer units, or utterances of a class, than folds.
        MissingExtraError: scikit-learn is not installed.
    """
    with optional("sklearn", "probing"):
        from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    names, index_of_unit = np.unique(np.array(units), return_inverse=True)
    fewer = "pass fewer --folds (in Python folds=), from 2, or more data"
    if num_folds < 2 or len(names) < num_folds:
        raise AuricleError(
            f"got {len(names)} {unit}(s) for {num_folds} folds, expected one or more for each of 2 "
            f"folds or more; {fewer}"
        )
    rarest = Counter(classes or ()).most_common()[-1:]
    if not is_grouped and rarest and rarest[0][1] < num_folds:
        raise AuricleError(
            f"the label {rarest[0][0]!r} has {rarest[0][1]} example(s) for {num_folds} folds, "
            f"expected one for each; {fewer}, or leave out labels so rare"
        )
    rows = np.zeros(len(units))
    folds = []
    for seed in seeds:
        options: dict[str, Any] = {"n_splits": num_folds, "shuffle": True, "random_state": seed}
        with warnings.catch_warnings():
            # Of classes of fewer groups than folds: what no training has counts as an error.
            warnings.simplefilter("ignore", UserWarning)
            if classes is None:
                of_units = KFold(**options).split(names)
                tests = [np.flatnonzero(np.isin(index_of_unit, test)) for _, test in of_units]
            elif is_grouped:
                split = StratifiedGroupKFold(**options).split(rows, classes, index_of_unit)
                tests = [test for _, test in split]
            else:
                tests = [test for _, test in StratifiedKFold(**options).split(rows, classes)]
        for number, test in enumerate(tests, start=1):
            train = np.setdiff1d(np.arange(len(units)), test)
            if len(test) == 0 or (classes and len({classes[index] for index in train}) < 2):
                raise AuricleError(
                    f"the {unit}s and labels allow no {num_folds} folds: one of them tests "
                    f"{len(test)} examples and trains on {len(train)} of fewer than two labels; "
                    "pass another number of --folds (in Python folds=) or another --group"
                )
            folds.append(
                Fold(
                    name=f"seed {seed}, fold {number}",
                    train=tuple(train.tolist()),
                    test=tuple(test.tolist()),
                )
            )
    way = "at random" if classes is None else "stratified by label"
    apart = f"no {unit} in training and test at once" if is_grouped else "not grouped"
    return tuple(folds), (
        f"{num_folds} folds of {len(names)} {unit}s, {way}, {apart}; {len(seeds)} seed(s) from "
        f"{seeds[0]}"
    )


def is_list(data: str | Path) -> bool:
    """True if the data of a task is an input to list, not a folder with the task's own tables."""
    return not Path(data).is_dir() or is_listed_folder(str(data))


def find_table(task: str, folder: Path, name: str, corpus: str) -> Path:
    """Table `name` of a task in `folder`, or in its subfolder `corpus` where it is not there.

    Raises:
        AuricleError: There is none.
    """
    for table in (folder / name, folder / corpus / name):
        if table.is_file():
            return table
    raise AuricleError(
        f"the task {task} needs labels, and {folder} has no {name}; expected as --data (in Python "
        f"data=) {DATA[task]}; docs/probing.md shows a sample of each"
    )


def check_files(utterances: Sequence[Utterance], where: str | Path) -> None:
    """Check that the files of utterances exist; `where` is the list that names them.

    Raises:
        AuricleError: Some are missing.
    """
    files = [one.source for one in utterances if one.container == "file"]
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise AuricleError(
            f"{len(missing)} of the {len(files)} files that {where} names are missing, the first "
            f"of them {missing[0]}"
        )


def _labelled(where: str | Path, columns: Sequence[str]) -> list[Utterance]:
    """The utterances of an input, each with the labels of `columns`.

    Raises:
        AuricleError: The input cannot be read, lacks a column or a value.
    """
    listing = list_utterances([str(where)], with_labels=True, is_strict=False)
    refuse_problems(listing)
    has = list(dict.fromkeys(name for one in listing.utterances for name in one.labels))
    if missing := [column for column in columns if column not in has]:
        raise AuricleError(
            f"{where} lacks the column(s) {', '.join(missing)}; it has {', '.join(has) or 'none'}"
        )
    for one in listing.utterances:
        if not all(one.labels.get(column) for column in columns):
            raise AuricleError(f"{where}, {one.id}: expected a value in {', '.join(columns)}")
    return listing.utterances


def _indices_by(keys: list[str]) -> dict[str, list[int]]:
    """Indices of each key, in the order of the keys."""
    groups: dict[str, list[int]] = {key: [] for key in sorted(set(keys))}
    for index, key in enumerate(keys):
        groups[key].append(index)
    return groups


TASKS: dict[str, Callable[[str | Path, int], Task]] = {
    "phones": _read_phones,
    "words": _read_words,
    "speakers": _read_speakers,
}
"""Readers of the tasks, by name; each takes the data and a seed."""
