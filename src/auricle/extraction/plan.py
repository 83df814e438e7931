"""Plans: which utterances go through the model together and which shard keeps them, on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from auricle.corpus.utterance import Container, Utterance
from auricle.errors import StoreError
from auricle.store.folder import Folder
from auricle.store.index import PLAN_REMEDY, read_checked
from auricle.store.layout import PLANS, ShardKey, parse_plan_file, plan_file

if TYPE_CHECKING:
    import pyarrow


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
class PlanLimits:
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
    utterances: Iterable[Timed], num_bytes: Callable[[float], int], limits: PlanLimits
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """The plan of one run: which shards it adds.

    Attributes:
        number: Counted from 0.
        shards: In order, longest utterances first.
    """

    number: int
    shards: tuple[ShardPlan, ...]

    def key(self, shard: ShardPlan) -> ShardKey:
        """What a shard of it is called in the store."""
        return ShardKey(self.number, shard.number)


def write_plan(folder: Folder, generation: Generation) -> None:
    """Write a generation's plan whole.

    Raises:
        OutputError: It cannot be written.
    """
    import pyarrow.parquet

    rows = [
        _row(timed, shard.number, batch)
        for shard in generation.shards
        for batch, batch_items in enumerate(shard.batches)
        for timed in batch_items
    ]
    table = pyarrow.Table.from_pylist(rows, schema=_schema())

    def write(temporary: Path) -> None:
        pyarrow.parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)

    folder.write_whole(plan_file(generation.number), write)


def plan_numbers(folder: Folder) -> list[int]:
    """Numbers of the runs that have left a plan, in order; one that was damaged may be missing."""
    return sorted(
        number for name in folder.sizes(PLANS) if (number := parse_plan_file(name)) is not None
    )


def read_plans(folder: Folder) -> list[Generation]:
    """The plans of all runs, in order.

    Raises:
        StoreError: One cannot be read.
    """
    return [read_plan(folder, number) for number in plan_numbers(folder)]


def read_plan(folder: Folder, number: int) -> Generation:
    """The plan of one run.

    Raises:
        StoreError: It cannot be read.
    """
    rows = _table(folder, number).to_pylist()
    return Generation(number=number, shards=tuple(_shards(rows)))


def planned_keys(folder: Folder, number: int) -> set[ShardKey]:
    """The shards of one run, without what they hold: of millions of rows that is little.

    Raises:
        StoreError: The plan cannot be read.
    """
    shards = _table(folder, number)["shard"].unique().to_pylist()
    return {ShardKey(number, shard) for shard in shards}


def plan_digest(plan: ShardPlan) -> str:
    """Digest, in hex, of what a shard is to hold and of its batches."""
    rows = [
        tuple(_row(timed, plan.number, batch).values())
        for batch, batch_items in enumerate(plan.batches)
        for timed in batch_items
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _table(folder: Folder, number: int) -> pyarrow.Table:
    name = plan_file(number)
    table = read_checked(folder, name, PLAN_REMEDY)
    if not table.schema.equals(_schema()):
        raise StoreError(
            f"{folder.where(name)} is no plan: its columns are {', '.join(table.column_names)}; "
            f"{PLAN_REMEDY}"
        )
    return table


def _schema() -> pyarrow.Schema:
    import pyarrow

    columns = [
        ("id", pyarrow.string()),
        ("container", pyarrow.string()),
        ("source", pyarrow.binary()),
        ("member", pyarrow.string()),
        ("start", pyarrow.float64()),
        ("seconds", pyarrow.float64()),
        ("channel", pyarrow.int32()),
        ("length", pyarrow.float64()),
        ("shard", pyarrow.int64()),
        ("batch", pyarrow.int64()),
    ]
    return pyarrow.schema(columns)


def _row(timed: Timed, shard: int, batch: int) -> dict[str, Any]:
    utterance = timed.utterance
    return {
        "id": utterance.id,
        "container": utterance.container,
        # Bytes, because a path need not be text.
        "source": utterance.source.encode("utf-8", "surrogateescape"),
        "member": utterance.member,
        "start": utterance.start,
        "seconds": utterance.seconds,
        "channel": utterance.channel,
        "length": timed.seconds,
        "shard": shard,
        "batch": batch,
    }


def _timed(row: dict[str, Any]) -> Timed:
    containers: dict[str, Container] = {name: name for name in get_args(Container)}
    utterance = Utterance(
        id=row["id"],
        container=containers[row["container"]],
        source=row["source"].decode("utf-8", "surrogateescape"),
        member=row["member"],
        start=row["start"],
        seconds=row["seconds"],
        channel=row["channel"],
    )
    return Timed(utterance=utterance, seconds=row["length"])


@dataclasses.dataclass(frozen=True)
class _Placed:
    """A row of a plan."""

    shard: int
    batch: int
    timed: Timed


def _shards(rows: Sequence[dict[str, Any]]) -> Iterable[ShardPlan]:
    placed = [_Placed(row["shard"], row["batch"], _timed(row)) for row in rows]
    for number, of_shard in itertools.groupby(placed, attrgetter("shard")):
        batches = itertools.groupby(of_shard, attrgetter("batch"))
        yield ShardPlan(
            number=number,
            batches=tuple(tuple(one.timed for one in batch) for _, batch in batches),
        )
