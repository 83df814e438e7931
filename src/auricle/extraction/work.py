"""What one process does: load the encoder, encode shards, write each."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from auricle.audio.notes import gathering
from auricle.corpus.utterance import Utterance
from auricle.extraction.engine import (
    FLUSH_SECONDS,
    EncodedBatch,
    EncodedShard,
    Encoding,
    Failure,
    Flushing,
    Stages,
    run_shards,
)
from auricle.extraction.plan import ShardPlan, plan_digest
from auricle.extraction.selection import Selection
from auricle.models.base import Encoder
from auricle.store.layout import ShardKey
from auricle.store.segments import KeptItem, Segments
from auricle.store.writer import StoreWriter

FEW_SECONDS = 600.0
"""Audio for which decoding processes are not worth their start."""

MAX_WORKERS = 8
"""Decoding processes of a GPU; more of them wait for the disk."""


class LoadOn(Protocol):
    """Loads an encoder; `functools.partial(auricle.load, "tera")` is one."""

    def __call__(self, *, device: str) -> Encoder: ...


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An encoder that is where it is to run already."""

    encoder: Encoder

    def __call__(self, *, device: str) -> Encoder:
        return self.encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard of a plan, and its place in the store."""

    key: ShardKey
    plan: ShardPlan

    @property
    def is_streamed(self) -> bool:
        """Whether its audio comes with streams; a plan has none but such, or none of them."""
        return next(self.plan.utterances).utterance.container == "stream"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """All that a process needs to know; it can be pickled if `load` can.

    Attributes:
        load: Gives the encoder, on the `device` that it is told by name.
        selection: What is kept.
        short: What to do with audio shorter than the encoder's minimum.
        writer: Writes shards into the store.
        num_workers: Processes that decode ahead; 0 for a thread, None for what suits the device
            and the amount of audio.
        flush_seconds: Time after which what is encoded of a shard is flushed.
    """

    load: LoadOn
    selection: Selection
    short: Literal["error", "pad"]
    writer: StoreWriter
    num_workers: int | None
    flush_seconds: float = FLUSH_SECONDS

    @gathering
    def run(
        self,
        device: str,
        shards: Sequence[Shard],
        *,
        advance: Callable[[float], None],
        fail: Callable[[Failure], None],
    ) -> Stages:
        """Encode shards on a device and write them, in order.

        Args:
            device: Where the encoder runs, as torch says it.
            shards: What to encode.
            advance: Called with the seconds of audio of every batch that is done.
            fail: Called for each utterance that gives nothing; what it raises stops the run, and
                the shard is not written.

        Returns:
            Where the time went.

        Raises:
            AuricleError: The encoder cannot be loaded, or a shard cannot be written.
        """
        encoding = Encoding(
            encoder=self.load(device=device), selection=self.selection, short=self.short, fail=fail
        )
        keys = {id(shard.plan): shard.key for shard in shards}

        def write(done: EncodedShard) -> None:
            self.writer.write(keys[id(done.plan)], done.items)
            segments.remove([keys[id(done.plan)]])

        segments = Segments(self.writer.folder, self.writer.meta)
        begun = segments.keys()

        def flush(done: EncodedShard) -> None:
            batches = range(done.num_flushed, len(done.batches))
            if batches:
                digest = plan_digest(done.plan)
                segments.write(keys[id(done.plan)], digest, batches, _items(done, batches))

        def count(plan: ShardPlan) -> int:
            key = keys[id(plan)]
            return segments.num_batches(key, plan_digest(plan)) if key in begun else 0

        def read(plan: ShardPlan) -> list[EncodedBatch]:
            found = segments.read(keys[id(plan)], plan_digest(plan))
            return [_batch(plan, number, items) for batches, items in found for number in batches]

        num_workers = self.num_workers
        if num_workers is None:
            num_workers = suitable_workers(device, sum(shard.plan.seconds for shard in shards))
        return run_shards(
            [shard.plan for shard in shards],
            encoding,
            write,
            num_workers=num_workers,
            advance=advance,
            flushing=Flushing(seconds=self.flush_seconds, flush=flush, count=count, read=read),
        )


def _items(
    shard: EncodedShard, batches: Iterable[int]
) -> list[tuple[KeptItem, Mapping[str, Tensor]]]:
    """What some batches gave, as segments keep it."""
    items: list[tuple[KeptItem, Mapping[str, Tensor]]] = []
    for number in batches:
        batch = shard.batches[number]
        items += [(_kept(number, utterance), arrays) for utterance, arrays in batch.items]
        items += [(_kept(number, one.utterance, one.reason), {}) for one in batch.failures]
    return items


def _kept(batch: int, utterance: Utterance, reason: str = "") -> KeptItem:
    return KeptItem(
        batch=batch,
        id=utterance.id,
        fingerprint=utterance.fingerprint,
        seconds=utterance.seconds,
        reason=reason,
    )


def _batch(
    plan: ShardPlan, number: int, kept: Iterable[tuple[KeptItem, Mapping[str, Tensor]]]
) -> EncodedBatch:
    """A batch as it was encoded, out of what a segment keeps."""
    planned = {timed.utterance.id: timed.utterance for timed in plan.batches[number]}
    items, failures = [], []
    for item, arrays in kept:
        if item.batch != number:
            continue
        utterance = dataclasses.replace(
            planned[item.id], fingerprint=item.fingerprint, seconds=item.seconds
        )
        if item.reason:
            failures.append(Failure(utterance=utterance, reason=item.reason))
        else:
            items.append((utterance, dict(arrays)))
    return EncodedBatch(items=items, failures=failures)


def suitable_workers(device: str, seconds: float) -> int:
    """Processes that decode `seconds` of audio for a device; 0 for a thread.

    A model on the CPU uses all cores itself, and a thread decodes faster than it reads.
    """
    if torch.device(device).type == "cpu" or seconds < FEW_SECONDS:
        return 0
    cpus_of_device = (os.cpu_count() or 1) // max(1, torch.cuda.device_count())
    return max(1, min(MAX_WORKERS, cpus_of_device - 1))
