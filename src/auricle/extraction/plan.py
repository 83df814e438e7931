"""Which utterances go through the model together, and which shard keeps them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from auricle.corpus.utterance import Utterance

MAX_WASTE = 0.05
"""Share of a batch that may be padding."""

DEFAULT_BATCH_SECONDS = 120.0
DEFAULT_SHARD_BYTES = 256 << 20
DEFAULT_SHARD_SECONDS = 3600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed:
    """An utterance and its length, in seconds."""

    utterance: Utterance
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """The batches that make one shard.

    Attributes:
        number: Counted from 0 in its generation.
        batches: Utterances that go through the model together, in the order of the shard.
    """

    number: int
    batches: tuple[tuple[Timed, ...], ...]

    @property
    def utterances(self) -> Iterator[Timed]:
        """All utterances, in the order of the shard."""
        return (timed for batch in self.batches for timed in batch)

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return sum(timed.seconds for timed in self.utterances)

    @property
    def padded_seconds(self) -> float:
        """Seconds that the model computes, padding included."""
        return sum(len(batch) * max(timed.seconds for timed in batch) for batch in self.batches)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How much goes together.

    Attributes:
        batch_seconds: Audio that goes through the model at once, padding included; what is longer
            goes alone.
        shard_bytes: Size at which a shard ends.
        shard_seconds: Audio at which a shard ends, so that little is lost with a run that is
            killed where representations are small.
    """

    batch_seconds: float = DEFAULT_BATCH_SECONDS
    shard_bytes: int = DEFAULT_SHARD_BYTES
    shard_seconds: float = DEFAULT_SHARD_SECONDS


def plan_batches(utterances: Iterable[Timed], batch_seconds: float) -> list[tuple[Timed, ...]]:
    """Batches of similar lengths, longest first, so that what needs most memory comes first.

    A batch ends where one more utterance would take it over `batch_seconds`, padding included,
    or would make more than a twentieth of it padding. Equal lengths are in the order of ids, so
    that the same utterances give the same batches.
    """
    batches: list[tuple[Timed, ...]] = []
    batch: list[Timed] = []
    seconds = 0.0
    for timed in sorted(utterances, key=lambda timed: (-timed.seconds, timed.utterance.id)):
        if batch:
            padded = batch[0].seconds * (len(batch) + 1)
            is_wasteful = seconds + timed.seconds < (1 - MAX_WASTE) * padded
            if padded > batch_seconds or is_wasteful:
                batches.append(tuple(batch))
                batch, seconds = [], 0.0
        batch.append(timed)
        seconds += timed.seconds
    return [*batches, tuple(batch)] if batch else batches


def plan_shards(
    utterances: Iterable[Timed], num_bytes: Callable[[float], int], limits: Limits
) -> list[ShardPlan]:
    """Shards of whole batches.

    Args:
        utterances: What is to be extracted.
        num_bytes: Bytes that the representation of so many seconds takes.
        limits: How large batches and shards grow. A shard is over its limits by less than a
            batch.
    """
    shards: list[list[tuple[Timed, ...]]] = [[]]
    size = 0
    seconds = 0.0
    for batch in plan_batches(utterances, limits.batch_seconds):
        if size >= limits.shard_bytes or seconds >= limits.shard_seconds:
            shards.append([])
            size, seconds = 0, 0.0
        shards[-1].append(batch)
        size += sum(num_bytes(timed.seconds) for timed in batch)
        seconds += sum(timed.seconds for timed in batch)
    return [
        ShardPlan(number=number, batches=tuple(batches))
        for number, batches in enumerate(shards)
        if batches
    ]
