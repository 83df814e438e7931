"""Probing tasks: audio, labels, and folds of training and test utterances."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from auricle.corpus.utterance import Segment
from auricle.errors import AuricleError
from auricle.probing.corpora import Row, existing_audio, find_table, read_table

LABEL_FRAMES_PER_SECOND = 100
"""Rate of the phone labels, in frames of 10 ms."""

NUM_HALVINGS = 5
"""Random splits of each speaker's utterances into halves; a single one is a noisy estimate."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utterance:
    """Audio file with one label, or with labelled segments in tasks with labelled frames."""

    path: Path
    label: str = ""
    segments: tuple[Segment, ...] = ()


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

    If `labels_frames`, frames are labelled instead of whole utterances.
    """

    name: str
    utterances: tuple[Utterance, ...]
    folds: tuple[Fold, ...]
    labels_frames: bool = False
    seed: int = 0


def read_task(name: str, folder: Path, *, seed: int = 0) -> Task:
    """Read a task from its corpus; `docs/probing.md` describes the tables it needs.

    Args:
        name: One of `TASKS`.
        folder: The corpus (`librispeech` for phones and speakers, `arabic_words` for words), or
            the folder that contains it under this name.
        seed: Seed of the random splits of a speaker's utterances.

    Raises:
        AuricleError: There is no such task, or the corpus is not complete.
    """
    if name not in TASKS:
        raise AuricleError(f"there is no task {name!r}; expected one of {', '.join(TASKS)}")
    return dataclasses.replace(TASKS[name](folder, seed), seed=seed)


def _read_phones(folder: Path, seed: int) -> Task:
    """Phone task: leave-one-speaker-out folds."""
    del seed  # nothing is random
    table = find_table(folder, "phones.tsv", "librispeech")
    segments: dict[str, list[Segment]] = defaultdict(list)
    for row in read_table(table, ("path", "phone", "start_frame_10ms", "frames")):
        segments[row["path"]].append(_segment(table, row))
    manifest = table.parent / "manifest.tsv"
    speakers = {row["path"]: row["speaker"] for row in read_table(manifest, ("path", "speaker"))}
    unknown = [path for path in segments if path not in speakers]
    if unknown:
        raise AuricleError(f"{manifest} lacks {unknown[0]}, which {table} has phones of")
    names = sorted(segments)
    utterances = tuple(
        Utterance(path=path, segments=_in_order(path, segments[name]))
        for name, path in zip(names, existing_audio(table, names), strict=True)
    )
    groups = _indices_by([speakers[name] for name in names])
    if len(groups) < 2:
        raise AuricleError(
            f"{table} has phones of {len(groups)} speaker, but each is tested by what is trained "
            "on the others; expected 2 or more"
        )
    everything = range(len(names))
    folds = tuple(
        Fold(
            name=f"speaker {speaker}",
            train=tuple(index for index in everything if index not in set(test)),
            test=tuple(test),
        )
        for speaker, test in groups.items()
    )
    return Task(name="phones", utterances=utterances, folds=folds, labels_frames=True)


def _segment(table: Path, row: Row) -> Segment:
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


def _in_order(path: Path, segments: list[Segment]) -> tuple[Segment, ...]:
    ordered = sorted(segments, key=lambda segment: segment.start)
    for before, after in pairwise(ordered):
        if after.start < before.end:
            raise AuricleError(
                f"{path} has phones that overlap at {after.start:g} s: {before.label} and "
                f"{after.label}"
            )
    return tuple(ordered)


def _read_words(folder: Path, seed: int) -> Task:
    """Word task: the train and test splits of the manifest, whose speakers differ.

    The split `val` is left for tuning.
    """
    del seed  # nothing is random
    table = find_table(folder, "manifest.tsv", "arabic_words")
    rows = [
        row
        for row in read_table(table, ("path", "split", "word"))
        if row["split"] in ("train", "test")
    ]
    splits = _indices_by([row["split"] for row in rows])
    if len(splits) < 2:
        raise AuricleError(f"{table} has no rows of both splits, train and test")
    utterances = _labelled(table, rows, "word")
    fold = Fold(name="test", train=tuple(splits["train"]), test=tuple(splits["test"]))
    return Task(name="words", utterances=utterances, folds=(fold,))


def _read_speakers(folder: Path, seed: int) -> Task:
    """Speaker task: each half of every speaker's utterances is the test set in turn."""
    import torch

    table = find_table(folder, "manifest.tsv", "librispeech")
    rows = [
        row for row in read_table(table, ("path", "split", "speaker")) if row["split"] == "speakers"
    ]
    rows.sort(key=lambda row: row["path"])
    groups = _indices_by([row["speaker"] for row in rows])
    if len(groups) < 2 or min(map(len, groups.values())) < 2:
        raise AuricleError(
            f"{table} has {len(rows)} rows of split speakers by {len(groups)} speakers; expected 2 "
            "or more speakers with 2 or more utterances each"
        )
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
    return Task(name="speakers", utterances=_labelled(table, rows, "speaker"), folds=tuple(folds))


def _labelled(table: Path, rows: list[Row], column: str) -> tuple[Utterance, ...]:
    paths = existing_audio(table, [row["path"] for row in rows])
    return tuple(
        Utterance(path=path, label=row[column]) for path, row in zip(paths, rows, strict=True)
    )


def _indices_by(keys: list[str]) -> dict[str, list[int]]:
    """Indices of each key, in the order of the keys."""
    groups: dict[str, list[int]] = {key: [] for key in sorted(set(keys))}
    for index, key in enumerate(keys):
        groups[key].append(index)
    return groups


TASKS: dict[str, Callable[[Path, int], Task]] = {
    "phones": _read_phones,
    "words": _read_words,
    "speakers": _read_speakers,
}
"""Readers of the tasks, by name; each takes the folder and a seed."""
