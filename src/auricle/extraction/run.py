"""A run: what is new gets a plan, what is planned and not done is encoded, the index is merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from auricle.corpus.reading import ListedLengths, utterance_seconds
from auricle.corpus.utterance import Problem, Utterance
from auricle.errors import AudioError, AuricleError, OutputError, StoreError
from auricle.extraction.engine import Failure, Stages
from auricle.extraction.failures import Failures
from auricle.extraction.plan import (
    Generation,
    PlanLimits,
    ShardPlan,
    Timed,
    plan_digest,
    plan_numbers,
    plan_shards,
    planned_keys,
    read_plan,
    write_plan,
)
from auricle.extraction.sources import compare, counted, has_changed
from auricle.extraction.work import Shard, Work
from auricle.files import locks
from auricle.store.folder import Folder, LocalFolder
from auricle.store.index import part_keys, read_part, read_parts
from auricle.store.layout import PARTS, ShardKey, plan_file
from auricle.store.segments import Segments

if TYPE_CHECKING:
    import pyarrow

HEADER_THREADS = 16
"""Headers read at once: what takes long is waiting for a disk or a network."""


Notice: TypeAlias = Callable[[Sequence[Sequence[Timed]]], None]
"""Looks at batches before they are encoded, and may say something of them."""


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
        num_before: Utterances that were encoded already, in shards that are whole or not.
        num_failed: Utterances that gave nothing.
        num_failed_before: Utterances that gave nothing in earlier runs, and were not tried again.
        seconds: Audio that it encoded, in seconds.
        example: Id of one of them, None where there are none.
        padding: Share of what the model computed that was padding.
        stages: Where the time went.
        num_frames: Of a dry run: rows that would be written of each layer.
        num_bytes: Of a dry run: bytes of what would be written.
        expected_seconds: Of a dry run: time that encoding is expected to take; None where that
            cannot be measured.
    """

    num_encoded: int
    num_before: int
    num_failed: int
    num_failed_before: int
    seconds: float
    example: str | None
    padding: float
    stages: Stages
    num_frames: int = 0
    num_bytes: int = 0
    expected_seconds: float | None = None


def extract(
    utterances: Sequence[Utterance],
    work: Work,
    engine: Engine,
    *,
    num_bytes: Callable[[float], int],
    progress: Progress,
    limits: PlanLimits,
    known_seconds: Mapping[str, float] | None = None,
    problems: Sequence[Problem] = (),
    on_error: Literal["report", "stop"] = "report",
    refresh: bool = False,
    notice: Notice = lambda batches: None,
) -> Summary:
    """Encode what a store does not hold yet, and close it.

    A run that was killed goes on: what it had planned is encoded in the batches that it had
    planned. Utterances that failed before are tried again. What the store holds is compared with
    the audio that goes by its ids now.

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
        refresh: Encode again what has changed; else it is an error.
        notice: Called with the batches that are about to be encoded.

    Raises:
        ExtractionError: An utterance gave nothing, and `on_error` is "stop".
        OutputError: The store holds other audio under an id, cannot be written, or another run is
            writing to it.
    """
    failures = Failures(work.writer.folder, progress.fail, stops=on_error == "stop")
    with locked(work.writer.folder):
        run = Run(
            work, engine, num_bytes=num_bytes, limits=limits, failures=failures, notice=notice
        )
        held = compare(run.kept_parts(), utterances)
        held.report(work.writer.folder.location, refuses=not refresh)
        run.discard({key: {one.id for one in held.changed[key]} for key in held.changed})
        kept = held.kept
        pending = run.going_on(utterances, kept)
        waiting = {timed.utterance.id for shard in pending for timed in shard.plan.utterances}
        new = [u for u in utterances if u.id not in kept and u.id not in waiting]
        failures.forget({u.id for u in new} | waiting)
        for problem in problems:
            failures.add_problem(problem)
        shards = [*pending, *run.add(new, known_seconds, progress.measure)]
        remaining = [batch for shard in shards for batch in run.batches(shard)]
        seconds = sum(timed.seconds for batch in remaining for timed in batch)
        progress.start(seconds, sum(map(len, remaining)))
        run.encode(shards, progress.advance)
        run.lengths.report()
        run.forget_barren()
        run.close()
    return run.summary(num_before=len(kept))


class Run:
    """A store while a run adds to it: what it holds and what waits, more plans, their shards.

    Args:
        work: How utterances are encoded and written; its writer has begun the store.
        engine: What runs it.
        num_bytes: Bytes that the representation of so many seconds takes.
        limits: How large batches and shards grow.
        failures: Where what gives nothing is noted.
        notice: Called with batches that are about to be encoded.

    Attributes:
        lengths: Those that lists state, compared with what was decoded.
    """

    def __init__(
        self,
        work: Work,
        engine: Engine,
        *,
        num_bytes: Callable[[float], int],
        limits: PlanLimits,
        failures: Failures,
        notice: Notice,
    ) -> None:
        self._notice = notice
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
        self._segments = Segments(self._folder, work.writer.meta)
        self._begun = self._segments.keys()
        self._num_encoded = self._num_resumed = 0
        self._seconds = self._planned_seconds = self._padded_seconds = 0.0
        self._stages = Stages()
        self._example: str | None = None

    def kept_parts(self) -> Iterator[tuple[ShardKey, pyarrow.Table]]:
        """Rows of the index of every shard that was done when the run began, in order."""
        return ((key, read_part(self._folder, key).rows) for key in sorted(self._done))

    def discard(self, stale: Mapping[ShardKey, Collection[str]]) -> None:
        """Remove utterances from shards that are done, by their ids.

        Raises:
            OutputError: A shard cannot be written.
        """
        if not stale:
            return
        self._reopen()
        for key, ids in stale.items():
            if not self._work.writer.discard(key, ids):
                self._done -= {key}

    def going_on(self, utterances: Sequence[Utterance], kept: Collection[str]) -> list[Shard]:
        """Shards that are planned and not done, of utterances that are still to be encoded so.

        What a later plan holds, what is kept elsewhere, and what has another source among
        `utterances` by now, is none of theirs.
        """
        listed = {utterance.id: utterance for utterance in utterances}
        taken: set[str] = set()
        shards = []
        for shard in reversed([shard for shard in self.pending() if not shard.is_streamed]):
            planned = [timed.utterance for timed in shard.plan.utterances]
            left_out = {
                u.id for u in planned if u.id in kept or u.id in taken or listed.get(u.id, u) != u
            }
            taken |= {utterance.id for utterance in planned} - left_out
            going_on = dataclasses.replace(shard, plan=_without(shard.plan, left_out))
            self._cut_changed(going_on)
            shards.append(going_on)
        return shards[::-1]

    def _cut_changed(self, shard: Shard) -> None:
        """Forget what segments keep of batches whose audio has changed since."""
        if shard.key not in self._begun:
            return
        planned = {timed.utterance.id: timed.utterance for timed in shard.plan.utterances}
        for _, items in self._segments.kept(shard.key, plan_digest(shard.plan)):
            for item in items:
                if has_changed(planned[item.id], item.fingerprint):
                    self._segments.cut(shard.key, item.batch)
                    return

    def batches(self, shard: Shard) -> Sequence[Sequence[Timed]]:
        """Batches of a shard that are still to be encoded: of a stopped run's, others are kept."""
        if shard.key not in self._begun:
            return shard.plan.batches
        num_kept = self._segments.num_batches(shard.key, plan_digest(shard.plan))
        self._segments.cut(shard.key, num_kept)  # those of another plan or version
        return shard.plan.batches[num_kept:]

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
        if shards:
            self._reopen()
        remaining = {shard.key: self.batches(shard) for shard in shards}
        self._notice([batch for batches in remaining.values() for batch in batches])
        failed: set[str] = set()

        def fail(failure: Failure) -> None:
            failed.add(failure.utterance.id)
            self._failures.add(failure)

        try:
            self._stages += self._engine(self._work, shards, advance=advance, fail=fail)
        except BaseException as error:
            with suppress(AuricleError, OSError):
                add_note(error, self._kept_note(shards, failed))
            raise
        self._failures.write()
        decoded = self._decoded_seconds(shards)
        for shard in shards:
            batches = remaining[shard.key]
            num_written = sum(t.utterance.id not in failed for t in shard.plan.utterances)
            for timed in (timed for batch in batches for timed in batch):
                if timed.utterance.id not in failed:
                    self._num_encoded += 1
                    num_written -= 1
                    self._seconds += decoded[timed.utterance.id]
                    self.lengths.compare(timed.utterance.id, decoded[timed.utterance.id])
            self._num_resumed += num_written
            encoded = ShardPlan(number=shard.plan.number, batches=tuple(map(tuple, batches)))
            self._planned_seconds += encoded.seconds
            self._padded_seconds += encoded.padded_seconds
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

    def close(self) -> None:
        """Close the store; where everything has failed, leave the folder to whatever comes next.

        Raises:
            OutputError: It cannot be written.
        """
        if self._failures.num_new and not self._holds_anything():
            self._work.writer.abandon()
        else:
            self._work.writer.close()

    def _holds_anything(self) -> bool:
        parts = read_parts(self._folder, part_keys(self._folder))
        return any(isinstance(part, StoreError) or part.rows.num_rows for part in parts)

    def _kept_note(self, shards: Sequence[Shard], failed: Collection[str]) -> str:
        """What is kept of shards that the run was at when it stopped."""
        parts = self._folder.sizes(PARTS)
        num_whole, num_flushed = self._num_encoded + self._num_resumed, 0
        for shard in shards:
            if shard.key.part in parts:
                num_whole += sum(t.utterance.id not in failed for t in shard.plan.utterances)
                continue
            kept = self._segments.kept(shard.key, plan_digest(shard.plan))
            num_flushed += sum(not item.reason for _, items in kept for item in items)
        number = counted(num_whole + num_flushed, "utterance")
        where = f" ({num_flushed} in unfinished shards)" if num_flushed else ""
        return (
            f"{self._folder.location} keeps {number} of this run{where}; run the same command to "
            "resume"
        )

    def summary(self, *, num_before: int) -> Summary:
        """What was done; the store held `num_before` utterances before."""
        padded = self._padded_seconds
        return Summary(
            num_encoded=self._num_encoded,
            num_before=num_before + self._num_resumed,
            num_failed=self._failures.num_new,
            num_failed_before=self._failures.num_old,
            seconds=self._seconds,
            example=self._example,
            padding=1 - self._planned_seconds / padded if padded else 0.0,
            stages=self._stages,
        )

    def _reopen(self) -> None:
        if not self._is_open:
            self._work.writer.reopen()
            self._segments.remove(self._done)
            self._is_open = True

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


def add_note(error: BaseException, note: str) -> None:
    """Let an error say more, as `add_note` does from Python 3.11 on."""
    notes: list[str] = getattr(error, "__notes__", [])
    error.__notes__ = [*notes, note]  # type: ignore[attr-defined]  # of Python 3.11


def _without(plan: ShardPlan, ids: Collection[str]) -> ShardPlan:
    """A plan without some utterances; the same where it has none of them."""
    if not ids:
        return plan
    batches = (tuple(t for t in batch if t.utterance.id not in ids) for batch in plan.batches)
    return dataclasses.replace(plan, batches=tuple(batch for batch in batches if batch))


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Keep other runs on this machine out of a folder.

    Raises:
        OutputError: Another run is in it, it may not be written to, or it cannot be locked.
    """
    with ExitStack() as stack:
        if isinstance(folder, LocalFolder):
            busy = (
                f"another run is writing to {folder.location}; wait for it, or take another folder"
            )
            try:
                stack.enter_context(locks.locked(folder.path, 0.0, OutputError(busy)))
            except OSError as error:
                raise OutputError(
                    f"cannot write to {folder.location}: {error.strerror or error}; choose a "
                    "folder that you may write to"
                ) from error
        yield
