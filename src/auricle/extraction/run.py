"""A run: what is new gets a plan, what is planned and not done is encoded, the index is merged."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from auricle.errors import AudioError, ExtractionError, OutputError
from auricle.extraction.engine import Failure, Stages
from auricle.extraction.formats.base import path_text
from auricle.extraction.inputs.records import Problem
from auricle.extraction.plan import Limits, ShardPlan, Timed, padding_share, plan_shards
from auricle.extraction.plans import Generation, read_plans, write_plan
from auricle.extraction.reading import utterance_seconds
from auricle.extraction.store.folder import Folder, LocalFolder
from auricle.extraction.store.index import read_part
from auricle.extraction.store.layout import ERRORS, ShardKey, plan_file
from auricle.extraction.utterances import Utterance
from auricle.extraction.work import Shard, Work

HEADER_THREADS = 16
"""Headers read at once: what takes long is waiting for a disk or a network."""


class Engine(Protocol):
    """What runs shards: this process, several of this machine, or many machines."""

    def __call__(
        self,
        work: Work,
        shards: Sequence[Shard],
        *,
        advance: Callable[[float], None],
        fail: Callable[[Failure], None],
    ) -> Stages: ...


class Progress(Protocol):
    """Hears how a run goes on."""

    def start(self, seconds: float, num_utterances: int) -> None:
        """So much is to be encoded."""

    def advance(self, seconds: float) -> None:
        """So much more is done."""

    def fail(self, reason: str) -> None:
        """Something gave nothing, which is named with the reason."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did.

    Attributes:
        num_encoded: Utterances that it wrote.
        num_before: Utterances that were in the store already.
        num_failed: Utterances that gave nothing.
        seconds: Audio that it encoded, in seconds.
        example: Id of one of them, None where there are none.
        padding: Share of what the model computed that was padding.
        stages: Where the time went.
    """

    num_encoded: int
    num_before: int
    num_failed: int
    seconds: float
    example: str | None
    padding: float
    stages: Stages


def extract(
    utterances: Sequence[Utterance],
    work: Work,
    engine: Engine,
    *,
    num_bytes: Callable[[float], int],
    progress: Progress,
    limits: Limits,
    known_seconds: Mapping[str, float] | None = None,
    problems: Sequence[Problem] = (),
    on_error: Literal["report", "stop"] = "report",
) -> Summary:
    """Encode what a store does not hold yet, and close it.

    A run that was killed goes on: what it had planned is encoded in the batches that it had
    planned. Utterances that failed before are tried again.

    Args:
        utterances: What the store is to hold, with ids that are unique.
        work: How it is encoded and written; its writer has begun the store.
        engine: What runs it.
        num_bytes: Bytes that the representation of so many seconds takes.
        progress: Hears how it goes on.
        limits: How large batches and shards grow.
        known_seconds: Lengths by id where a list tells them.
        problems: Rows of the inputs that are no utterances: failures too.
        on_error: Whether an utterance that gives nothing is reported or ends the run.

    Raises:
        ExtractionError: An utterance gave nothing, and `on_error` is "stop".
        OutputError: The store cannot be written, or another run is writing to it.
    """
    folder = work.writer.folder
    failures = Failures(folder, progress, stops=on_error == "stop")
    with locked(folder):
        generations = read_plans(folder)
        done = work.writer.completed()
        kept = _kept_ids(folder, done)
        pending = _pending(generations, done)
        waiting = {timed.utterance.id for shard in pending for timed in shard.plan.utterances}
        new = [u for u in utterances if u.id not in kept and u.id not in waiting]
        failures.forget({u.id for u in new} | waiting)
        for problem in problems:
            failures.add_problem(problem)
        timed = _timed(_nameable(new, work, failures), known_seconds, failures)
        added = _add_generation(folder, len(generations), timed, num_bytes, limits)
        shards = [*pending, *added]
        if shards:
            work.writer.reopen()
        plans = [shard.plan for shard in shards]
        num_utterances = sum(1 for plan in plans for _ in plan.utterances)
        progress.start(sum(plan.seconds for plan in plans), num_utterances)
        num_before_failures = failures.num_new
        stages = engine(work, shards, advance=progress.advance, fail=failures.add)
        failures.write()
        num_failed = failures.num_new - num_before_failures
        example = _example(work, shards)
        _forget_barren(work, shards)
        work.writer.close()
    return Summary(
        num_encoded=num_utterances - num_failed,
        num_before=len(kept),
        num_failed=failures.num_new,
        seconds=sum(plan.seconds for plan in plans),
        example=example,
        padding=padding_share(plans),
        stages=stages,
    )


class Failures:
    """What gave nothing, in errors.jsonl: a line of JSON each.

    What has an id stays until it is tried again; rows of lists that have none are those of the
    last run.
    """

    def __init__(self, folder: Folder, progress: Progress, *, stops: bool) -> None:
        self.num_new = 0
        self._folder = folder
        self._progress = progress
        self._stops = stops
        self._entries = {entry["id"]: entry for entry in _read_errors(folder) if entry["id"]}

    def forget(self, ids: Iterable[str]) -> None:
        """Drop what is to be tried again."""
        for name in ids:
            self._entries.pop(name, None)

    def add(self, failure: Failure) -> None:
        """Note and report a failure.

        Raises:
            ExtractionError: The run is to stop at the first.
        """
        self._add(failure.utterance.id, failure.utterance.source, failure.reason)

    def add_problem(self, problem: Problem) -> None:
        """The same for a row of an input that is no utterance."""
        self._add(problem.id, problem.source, str(problem))

    def _add(self, name: str, source: str, reason: str) -> None:
        source = path_text(source)
        reason = " ".join(reason.split())
        self._entries[name or reason] = {"id": name, "source": source, "error": reason}
        self.num_new += 1
        where = " ".join(part for part in (name, f"({source})" if source else "") if part)
        line = reason if source in reason and name in reason else f"{where}: {reason}"
        if self._stops:
            self.write()
            raise ExtractionError(
                f"{line}; mend or leave it out and run the same command again, or go on past such "
                "files with --on-error report"
            )
        self._progress.fail(line)

    def write(self) -> None:
        """Write the file, or remove it where there are none.

        Raises:
            OutputError: It cannot be written.
        """
        if not self._entries:
            self._folder.remove(ERRORS)
            return
        lines = (json.dumps(entry, ensure_ascii=False) for entry in self._entries.values())
        text = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")

        def write(temporary: Path) -> None:
            temporary.write_bytes(text)

        self._folder.write_whole(ERRORS, write)


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Keep other runs on this machine out of a folder.

    Raises:
        OutputError: Another run is in it.
    """
    if not isinstance(folder, LocalFolder) or os.name == "nt":
        yield
        return
    import fcntl

    handle = os.open(folder.path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise OutputError(
            f"another run is writing to {folder.location}; wait for it, or take another folder"
        ) from error
    try:
        yield
    finally:
        os.close(handle)


def _read_errors(folder: Folder) -> Iterator[dict[str, Any]]:
    try:
        with folder.open(ERRORS) as file:
            text = file.read().decode()
    except FileNotFoundError:
        return
    for line in text.splitlines():
        yield json.loads(line)


def _kept_ids(folder: Folder, done: Iterable[ShardKey]) -> set[str]:
    return {name for key in done for name in read_part(folder, key).rows["id"].to_pylist()}


def _pending(generations: Iterable[Generation], done: frozenset[ShardKey]) -> list[Shard]:
    return [
        Shard(key=generation.key(plan), plan=plan)
        for generation in generations
        for plan in generation.shards
        if generation.key(plan) not in done
    ]


def _nameable(
    utterances: Iterable[Utterance], work: Work, failures: Failures
) -> Iterator[Utterance]:
    """Utterances whose ids the format can hold; the others have failed."""
    for utterance in utterances:
        try:
            work.writer.format.check_id(utterance.id)
        except OutputError as error:
            failures.add(Failure(utterance=utterance, reason=str(error)))
        else:
            yield utterance


def _timed(
    utterances: Iterable[Utterance], known_seconds: Mapping[str, float] | None, failures: Failures
) -> list[Timed]:
    """Utterances with their lengths; what cannot be read has failed."""
    timed = []
    utterances = list(utterances)
    lengths = utterance_seconds(utterances, HEADER_THREADS, known_seconds)
    for utterance, seconds in zip(utterances, lengths, strict=True):
        if isinstance(seconds, AudioError):
            failures.add(Failure(utterance=utterance, reason=str(seconds)))
        else:
            timed.append(Timed(utterance=utterance, seconds=seconds))
    return timed


def _add_generation(
    folder: Folder,
    number: int,
    timed: Sequence[Timed],
    num_bytes: Callable[[float], int],
    limits: Limits,
) -> list[Shard]:
    plans: tuple[ShardPlan, ...] = tuple(plan_shards(timed, num_bytes, limits))
    if not plans:
        return []
    generation = Generation(number=number, shards=plans)
    write_plan(folder, generation)
    return [Shard(key=generation.key(plan), plan=plan) for plan in plans]


def _example(work: Work, shards: Sequence[Shard]) -> str | None:
    """An utterance of the last shard that has any."""
    for shard in reversed(shards):
        for name in read_part(work.writer.folder, shard.key).rows["id"].to_pylist():
            return str(name)
    return None


def _forget_barren(work: Work, shards: Sequence[Shard]) -> None:
    """Remove the last plan if nothing came of it: a run over what fails again leaves no trace."""
    folder = work.writer.folder
    generations = read_plans(folder)
    if not generations:
        return
    keys = [generations[-1].key(plan) for plan in generations[-1].shards]
    if any(read_part(folder, key).rows.num_rows for key in keys):
        return
    folder.remove(plan_file(generations[-1].number))
    for key in keys:
        folder.remove(key.part)
