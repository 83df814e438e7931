"""Run: new utterances get a plan, planned shards are encoded, the index is merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

from auricle.corpus.reading import ListedLengths, utterance_seconds
from auricle.corpus.utterance import Listing, Utterance
from auricle.errors import AudioError, AuricleError, OutputError, StoreError
from auricle.extraction.plan import (
    PlanLimits,
    PlannedShard,
    Timed,
    padded_seconds,
    plan_numbers,
    plan_shards,
    planned_keys,
    read_plan,
    total_seconds,
    write_plan,
)
from auricle.extraction.record import Failures, add_note
from auricle.extraction.sources import compare, counted, has_changed
from auricle.extraction.worker import Engine, Stages, Worker
from auricle.store.index import ITEM_BYTES, part_keys, read_part, read_parts
from auricle.store.layout import PARTS, ShardKey, plan_file
from auricle.store.segments import Segments

if TYPE_CHECKING:
    import pyarrow

HEADER_THREADS = 16
"""Headers read at once: what takes long is waiting for a disk or a network."""

Notice: TypeAlias = Callable[[Sequence[Sequence[Timed]]], None]
"""Looks at batches before they are encoded, and may log a remark on them."""


class Progress(Protocol):
    """Receives the events of a run."""

    def start(self, seconds: float | None, num_utterances: int | None) -> None:
        """Encoding begins, of so much audio; None for a stream, whose length is not known."""

    def measure(self, num_done: int, num_all: int) -> None:
        """The lengths of so many files have been measured, before `start`."""

    def advance(self, seconds: float) -> None:
        """So much more audio is encoded."""

    def fail(self, reason: str) -> None:
        """An utterance gave nothing; the reason names it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """Summary of a run.

    Attributes:
        num_encoded: Utterances that it wrote.
        num_before: Utterances that were encoded already, in shards that are whole or not.
        num_failed: Utterances that gave nothing.
        num_failed_before: Utterances that gave nothing in earlier runs, and were not tried again.
        seconds: Audio that it encoded, in seconds.
        example: Id of one of them, None where there are none.
        padding: Share of what the model computed that was padding.
        stages: Where the time went.
        num_frames: Rows that it wrote of each layer (of the first, where their hops differ); of a
            dry run, rows that would be written.
        num_bytes: Size of the arrays that it wrote, as decoded values; of a dry run, of those that
            would be written.
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
    num_frames: int
    num_bytes: int
    expected_seconds: float | None = None


class Run:
    """A run into a store: plans new utterances, encodes shards, closes the store.

    To be made and used with the store locked (`Folder.locked`).

    Args:
        worker: Encodes and writes; its writer has begun the store.
        engine: Runs the worker.
        num_bytes: Bytes that the representation of so many seconds takes.
        progress: Receives the events of the run.
        limits: Sizes of batches and shards.
        stops: Whether the first utterance that gives nothing ends the run.
        notice: Called with batches that are about to be encoded.
    """

    def __init__(
        self,
        worker: Worker,
        engine: Engine,
        *,
        num_bytes: Callable[[float], int],
        progress: Progress,
        limits: PlanLimits | None = None,
        stops: bool = False,
        notice: Notice = lambda batches: None,
    ) -> None:
        self.progress = progress
        self.folder = worker.writer.folder
        self.failures = Failures(self.folder, self.progress.fail, stops=stops)
        self._worker = worker
        self._engine = engine
        self._num_bytes = num_bytes
        self._limits = limits or PlanLimits()
        self._notice = notice
        self._lengths = ListedLengths()
        self._plans = plan_numbers(self.folder)
        self._done = worker.writer.completed()
        self._is_open = False
        self._segments = Segments(self.folder, worker.writer.meta)
        self._begun = self._segments.keys()
        self._num_encoded = self._num_resumed = self._num_frames = self._num_value_bytes = 0
        self._seconds = self._planned_seconds = self._padded_seconds = 0.0
        self._stages = Stages()
        self._example: str | None = None

    def extract(self, listing: Listing, *, refresh: bool = False) -> Summary:
        """Encode the utterances that the store does not hold yet, and close it.

        A run that was killed goes on: its planned batches are encoded. Utterances that failed
        before are tried again. The store's utterances are compared with the audio of the same ids.

        Args:
            listing: Utterances that the store is to hold, with ids that are unique.
            refresh: Encode again what has changed; else it is an error.

        Raises:
            ExtractionError: An utterance gave nothing, and the run stops at the first.
            OutputError: The store holds other audio under an id, or cannot be written.
        """
        utterances = listing.utterances
        held = compare(self.kept_parts(), utterances)
        held.report(self.folder.location, refuses=not refresh)
        self._discard({key: {one.id for one in held.changed[key]} for key in held.changed})
        going_on = self._going_on(utterances, held.kept)
        waiting = {timed.utterance.id for shard in going_on for timed in shard.utterances}
        new = [u for u in utterances if u.id not in held.kept and u.id not in waiting]
        self.failures.forget({u.id for u in new} | waiting)
        for problem in listing.problems:
            self.failures.add_problem(problem)
        shards = [*going_on, *self.add(new, listing.known_seconds, self.progress.measure)]
        remaining = [batch for shard in shards for batch in self._remaining(shard)]
        self.progress.start(total_seconds(remaining), sum(map(len, remaining)))
        self.encode(shards)
        self._lengths.report()
        self._discard_empty_plan()
        return self.close(num_before=len(held.kept), order=[u.id for u in utterances])

    def kept_parts(self) -> Iterator[tuple[ShardKey, pyarrow.Table]]:
        """Rows of the index of every shard that was done when the run began, in order."""
        return ((key, read_part(self.folder, key).rows) for key in sorted(self._done))

    def pending(self) -> list[PlannedShard]:
        """Shards that are planned and not done."""
        keys = {number: planned_keys(self.folder, number) for number in self._plans}
        # Utterances of a lost plan are planned again; a part whose shard is damaged would hold
        # them too.
        for key in set(part_keys(self.folder)) - self._done - set().union(*keys.values()):
            self.folder.remove(key.part)
        numbers = [number for number in self._plans if not keys[number] <= self._done]
        plans = (read_plan(self.folder, number) for number in numbers)
        return [shard for plan in plans for shard in plan if shard.key not in self._done]

    def add(
        self,
        utterances: Iterable[Utterance],
        known_seconds: Mapping[str, float] | None = None,
        measured: Callable[[int, int], None] = lambda num_done, num_all: None,
    ) -> list[PlannedShard]:
        """Plan utterances that no plan holds, and write the plan; those without audio have failed.

        `known_seconds` and `measured` are those of `utterance_seconds`.

        Raises:
            ExtractionError: An utterance has failed, and the run is to stop there.
            OutputError: The plan cannot be written.
        """
        self._lengths.add(known_seconds or {})
        # Shards of a plan that was lost are there still.
        taken = {*self._plans, *(key.generation for key in part_keys(self.folder))}
        shards = plan_shards(
            self._timed(list(self._nameable(utterances)), known_seconds, measured),
            self._num_bytes,
            self._limits,
            generation=max(taken, default=-1) + 1,
        )
        if shards:
            write_plan(self.folder, shards)
            self._plans.append(shards[0].key.generation)
        return shards

    def encode(self, shards: Sequence[PlannedShard]) -> None:
        """Run shards, and note failures.

        Raises:
            AuricleError: As the engine does.
        """
        if shards:
            self._reopen()
        remaining = {shard.key: self._remaining(shard) for shard in shards}
        self._notice([batch for batches in remaining.values() for batch in batches])
        failed: set[str] = set()

        def fail(utterance: Utterance, reason: str) -> None:
            failed.add(utterance.id)
            self.failures.add(utterance, reason)

        try:
            self._stages += self._engine(
                self._worker, shards, advance=self.progress.advance, fail=fail
            )
        except BaseException as error:
            with suppress(AuricleError, OSError):
                add_note(error, self._kept_note(shards, failed))
            raise
        self.failures.write()
        for shard in shards:
            self._count(shard, remaining[shard.key], failed)

    def close(self, *, num_before: int, order: Sequence[str] = ()) -> Summary:
        """Close the store; where everything has failed, remove what the run made of it.

        Args:
            num_before: Utterances that the store held before.
            order: Ids in the order of the corpus, as far as that is known.

        Raises:
            OutputError: It cannot be written.
        """
        if self.failures.num_new and not self._holds_anything():
            self._worker.writer.abandon()
        else:
            self._worker.writer.close(order)
        padded = self._padded_seconds
        return Summary(
            num_encoded=self._num_encoded,
            num_before=num_before + self._num_resumed,
            num_failed=self.failures.num_new,
            num_failed_before=self.failures.num_old,
            seconds=self._seconds,
            example=self._example,
            padding=1 - self._planned_seconds / padded if padded else 0.0,
            stages=self._stages,
            num_frames=self._num_frames,
            num_bytes=self._num_value_bytes,
        )

    def _discard(self, changed: Mapping[ShardKey, Collection[str]]) -> None:
        """Remove utterances from shards that are done, by their ids."""
        if not changed:
            return
        self._reopen()
        for key, ids in changed.items():
            if not self._worker.writer.discard(key, ids):
                self._done -= {key}

    def _going_on(
        self, utterances: Sequence[Utterance], kept: Collection[str]
    ) -> list[PlannedShard]:
        """Shards that are planned and not done, of utterances that are still to be encoded so.

        Utterances of a later plan, those that are kept elsewhere, and those that have another
        source among `utterances` by now are left out.
        """
        listed = {utterance.id: utterance for utterance in utterances}
        taken: set[str] = set()
        shards = []
        for shard in reversed([shard for shard in self.pending() if not shard.is_streamed]):
            planned = [timed.utterance for timed in shard.utterances]
            left_out = {
                u.id for u in planned if u.id in kept or u.id in taken or listed.get(u.id, u) != u
            }
            taken |= {utterance.id for utterance in planned} - left_out
            going_on = shard.without(left_out)
            self._cut_changed(going_on)
            shards.append(going_on)
        return shards[::-1]

    def _cut_changed(self, shard: PlannedShard) -> None:
        """Remove segments from the first batch on whose audio has changed since."""
        if shard.key not in self._begun:
            return
        planned = {timed.utterance.id: timed.utterance for timed in shard.utterances}
        for _, items in self._segments.kept(shard.key, shard.digest):
            for item in items:
                if has_changed(planned[item.id], item.fingerprint):
                    self._segments.cut(shard.key, item.batch)
                    return

    def _remaining(self, shard: PlannedShard) -> Sequence[Sequence[Timed]]:
        """Batches of a shard that no segment of a stopped run holds."""
        if shard.key not in self._begun:
            return shard.batches
        num_kept = self._segments.num_batches(shard.key, shard.digest)
        self._segments.cut(shard.key, num_kept)  # those of another plan or version
        return shard.batches[num_kept:]

    def _count(
        self, shard: PlannedShard, batches: Sequence[Sequence[Timed]], failed: Collection[str]
    ) -> None:
        """Count a shard that is written, of which this run has encoded `batches`."""
        columns = ["id", "layer", "frames", "dim", "dtype", "seconds"]
        rows = read_part(self.folder, shard.key).rows.select(columns).to_pylist()
        decoded = {row["id"]: row["seconds"] for row in rows}
        encoded = [t.utterance.id for batch in batches for t in batch if t.utterance.id in decoded]
        for name in encoded:
            self._seconds += decoded[name]
            self._lengths.compare(name, decoded[name])
        ids = set(encoded)
        for row in (row for row in rows if row["id"] in ids):
            self._num_frames += row["frames"] if row["layer"] == rows[0]["layer"] else 0
            self._num_value_bytes += row["frames"] * row["dim"] * ITEM_BYTES[row["dtype"]]
        self._num_encoded += len(encoded)
        self._num_resumed += len(decoded) - len(encoded)
        self._planned_seconds += total_seconds(batches)
        self._padded_seconds += padded_seconds(batches)
        self._example = next(iter(decoded), self._example)

    def _discard_empty_plan(self) -> None:
        """Remove the last plan if all of it failed, so that what fails again leaves no trace."""
        if not self._plans:
            return
        keys = planned_keys(self.folder, self._plans[-1])
        if any(read_part(self.folder, key).rows.num_rows for key in keys):
            return
        self.folder.remove(plan_file(self._plans[-1]))
        for key in keys:
            self.folder.remove(key.part)

    def _holds_anything(self) -> bool:
        parts = read_parts(self.folder, part_keys(self.folder))
        return any(isinstance(part, StoreError) or part.rows.num_rows for part in parts)

    def _kept_note(self, shards: Sequence[PlannedShard], failed: Collection[str]) -> str:
        """A line on the results that are kept of shards at which the run stopped."""
        parts = self.folder.sizes(PARTS)
        num_whole, num_flushed = self._num_encoded + self._num_resumed, 0
        for shard in shards:
            if shard.key.part in parts:
                num_whole += sum(t.utterance.id not in failed for t in shard.utterances)
                continue
            kept = self._segments.kept(shard.key, shard.digest)
            num_flushed += sum(not item.reason for _, items in kept for item in items)
        number = counted(num_whole + num_flushed, "utterance")
        where = f" ({num_flushed} in unfinished shards)" if num_flushed else ""
        return (
            f"{self.folder.location} keeps {number} of this run{where}; run the same command to "
            "resume"
        )

    def _reopen(self) -> None:
        if not self._is_open:
            self._worker.writer.reopen()
            self._segments.remove(self._done)
            self._is_open = True

    def _nameable(self, utterances: Iterable[Utterance]) -> Iterator[Utterance]:
        """Utterances whose ids the format can hold; the others have failed."""
        for utterance in utterances:
            try:
                self._worker.writer.format.check_id(utterance.id)
            except OutputError as error:
                self.failures.add(utterance, str(error))
            else:
                yield utterance

    def _timed(
        self,
        utterances: Sequence[Utterance],
        known_seconds: Mapping[str, float] | None,
        measured: Callable[[int, int], None],
    ) -> Iterator[Timed]:
        """Utterances with their lengths; those that cannot be read have failed."""
        lengths = utterance_seconds(utterances, HEADER_THREADS, known_seconds, measured)
        for utterance, seconds in zip(utterances, lengths, strict=True):
            if isinstance(seconds, AudioError):
                self.failures.add(utterance, str(seconds))
            else:
                yield Timed(utterance=utterance, seconds=seconds)
