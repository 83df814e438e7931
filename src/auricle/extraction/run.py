"""A run: what is new gets a plan, what is planned and not done is encoded, the index is merged."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

from auricle.errors import AudioError, OutputError
from auricle.extraction.engine import Failure, Stages
from auricle.extraction.failures import Failures
from auricle.extraction.inputs.records import Problem
from auricle.extraction.plan import Limits, Timed, plan_shards
from auricle.extraction.plans import (
    Generation,
    plan_numbers,
    planned_keys,
    read_plan,
    write_plan,
)
from auricle.extraction.reading import ListedLengths, utterance_seconds
from auricle.extraction.store.folder import Folder, LocalFolder
from auricle.extraction.store.index import part_keys, read_part
from auricle.extraction.store.layout import plan_file
from auricle.extraction.utterances import Utterance
from auricle.extraction.work import Shard, Work

if TYPE_CHECKING:
    import pyarrow

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

    def start(self, seconds: float | None, num_utterances: int | None) -> None:
        """So much is to be encoded; None where nobody knows, of a stream."""

    def measure(self, num_done: int, num_all: int) -> None:
        """So many files have been looked at for their lengths, before `start`."""

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
        num_failed_before: Utterances that gave nothing in earlier runs, and were not tried again.
        seconds: Audio that it encoded, in seconds.
        example: Id of one of them, None where there are none.
        padding: Share of what the model computed that was padding.
        stages: Where the time went.
    """

    num_encoded: int
    num_before: int
    num_failed: int
    num_failed_before: int
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
    failures = Failures(work.writer.folder, progress.fail, stops=on_error == "stop")
    with locked(work.writer.folder):
        run = Run(work, engine, num_bytes=num_bytes, limits=limits, failures=failures)
        kept = {name for part in run.kept_parts() for name in part["id"].to_pylist()}
        pending = [shard for shard in run.pending() if not shard.is_streamed]
        waiting = {timed.utterance.id for shard in pending for timed in shard.plan.utterances}
        new = [u for u in utterances if u.id not in kept and u.id not in waiting]
        failures.forget({u.id for u in new} | waiting)
        for problem in problems:
            failures.add_problem(problem)
        shards = [*pending, *run.add(new, known_seconds, progress.measure)]
        plans = [shard.plan for shard in shards]
        num_utterances = sum(1 for plan in plans for _ in plan.utterances)
        progress.start(sum(plan.seconds for plan in plans), num_utterances)
        run.encode(shards, progress.advance)
        run.lengths.report()
        run.forget_barren()
        work.writer.close()
    return run.summary(num_before=len(kept))


class Run:
    """A store while a run adds to it: what it holds and what waits, more plans, their shards.

    Args:
        work: How utterances are encoded and written; its writer has begun the store.
        engine: What runs it.
        num_bytes: Bytes that the representation of so many seconds takes.
        limits: How large batches and shards grow.
        failures: Where what gives nothing is noted.

    Attributes:
        lengths: Those that lists state, compared with what was decoded.
    """

    def __init__(
        self,
        work: Work,
        engine: Engine,
        *,
        num_bytes: Callable[[float], int],
        limits: Limits,
        failures: Failures,
    ) -> None:
        self._work = work
        self._engine = engine
        self._num_bytes = num_bytes
        self._limits = limits
        self._failures = failures
        self.lengths = ListedLengths()
        self._folder = work.writer.folder
        self._plans = plan_numbers(self._folder)
        self._done = work.writer.completed()
        self._is_open = False
        self._num_encoded = 0
        self._seconds = self._planned_seconds = self._padded_seconds = 0.0
        self._stages = Stages()
        self._example: str | None = None

    def kept_parts(self) -> Iterator[pyarrow.Table]:
        """Rows of the index of every shard that was done when the run began."""
        return (read_part(self._folder, key).rows for key in self._done)

    def pending(self) -> list[Shard]:
        """Shards that are planned and not done."""
        keys = {number: planned_keys(self._folder, number) for number in self._plans}
        # What a lost plan held is planned anew; a part whose shard is damaged would hold it too.
        for key in set(part_keys(self._folder)) - self._done - set().union(*keys.values()):
            self._folder.remove(key.part)
        numbers = [number for number in self._plans if not keys[number] <= self._done]
        generations = (read_plan(self._folder, number) for number in numbers)
        return [
            Shard(key=generation.key(plan), plan=plan)
            for generation in generations
            for plan in generation.shards
            if generation.key(plan) not in self._done
        ]

    def add(
        self,
        utterances: Iterable[Utterance],
        known_seconds: Mapping[str, float] | None = None,
        measured: Callable[[int, int], None] = lambda num_done, num_all: None,
    ) -> list[Shard]:
        """Plan utterances that no plan holds, and write the plan down; what cannot be has failed.

        Raises:
            ExtractionError: An utterance has failed, and the run is to stop there.
            OutputError: The plan cannot be written.
        """
        self.lengths.add(known_seconds or {})
        timed = self._timed(list(self._nameable(utterances)), known_seconds, measured)
        plans = tuple(plan_shards(timed, self._num_bytes, self._limits))
        if not plans:
            return []
        # Shards of a plan that was lost are there still.
        taken = {*self._plans, *(key.generation for key in part_keys(self._folder))}
        generation = Generation(number=max(taken, default=-1) + 1, shards=plans)
        write_plan(self._folder, generation)
        self._plans.append(generation.number)
        return [Shard(key=generation.key(plan), plan=plan) for plan in plans]

    def encode(self, shards: Sequence[Shard], advance: Callable[[float], None]) -> None:
        """Run shards, and note what failed.

        Raises:
            AuricleError: As the engine does.
        """
        if shards and not self._is_open:
            self._work.writer.reopen()
            self._is_open = True
        failed: set[str] = set()

        def fail(failure: Failure) -> None:
            failed.add(failure.utterance.id)
            self._failures.add(failure)

        self._stages += self._engine(self._work, shards, advance=advance, fail=fail)
        self._failures.write()
        decoded = self._decoded_seconds(shards)
        for shard in shards:
            for timed in shard.plan.utterances:
                if timed.utterance.id not in failed:
                    self._num_encoded += 1
                    self._seconds += decoded[timed.utterance.id]
                    self.lengths.compare(timed, decoded[timed.utterance.id])
            self._planned_seconds += shard.plan.seconds
            self._padded_seconds += shard.plan.padded_seconds
        for shard in reversed(shards):
            for name in read_part(self._folder, shard.key).rows["id"][:1].to_pylist():
                self._example = name
                return

    def _decoded_seconds(self, shards: Sequence[Shard]) -> dict[str, float]:
        """The lengths that shards keep of their utterances, by id, in seconds."""
        parts = (read_part(self._folder, shard.key).rows for shard in shards)
        return {
            name: seconds
            for rows in parts
            for name, seconds in zip(
                rows["id"].to_pylist(), rows["seconds"].to_pylist(), strict=True
            )
        }

    def forget_barren(self) -> None:
        """Remove the last plan if nothing came of it, so that what fails again leaves no trace."""
        if not self._plans:
            return
        keys = planned_keys(self._folder, self._plans[-1])
        if any(read_part(self._folder, key).rows.num_rows for key in keys):
            return
        self._folder.remove(plan_file(self._plans[-1]))
        for key in keys:
            self._folder.remove(key.part)

    def summary(self, *, num_before: int) -> Summary:
        """What was done; the store held `num_before` utterances before."""
        padded = self._padded_seconds
        return Summary(
            num_encoded=self._num_encoded,
            num_before=num_before,
            num_failed=self._failures.num_new,
            num_failed_before=self._failures.num_old,
            seconds=self._seconds,
            example=self._example,
            padding=1 - self._planned_seconds / padded if padded else 0.0,
            stages=self._stages,
        )

    def _nameable(self, utterances: Iterable[Utterance]) -> Iterator[Utterance]:
        """Utterances whose ids the format can hold; the others have failed."""
        for utterance in utterances:
            try:
                self._work.writer.format.check_id(utterance.id)
            except OutputError as error:
                self._failures.add(Failure(utterance=utterance, reason=str(error)))
            else:
                yield utterance

    def _timed(
        self,
        utterances: Sequence[Utterance],
        known_seconds: Mapping[str, float] | None,
        measured: Callable[[int, int], None],
    ) -> Iterator[Timed]:
        """Utterances with their lengths; what cannot be read has failed."""
        lengths = utterance_seconds(utterances, HEADER_THREADS, known_seconds, measured)
        for utterance, seconds in zip(utterances, lengths, strict=True):
            if isinstance(seconds, AudioError):
                self._failures.add(Failure(utterance=utterance, reason=str(seconds)))
            else:
                yield Timed(utterance=utterance, seconds=seconds)


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
