"""Plans: the batches and shards of a run, decided once and kept on disk (`plans/`)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from operator import itemgetter
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
class PlannedShard:
    """A shard to be written: its place in the store, and the batches that make it.

    Attributes:
        key: The run that planned it and its number there, both counted from 0.
        batches: Utterances that go through the model together, in the order of the shard.
    """

    key: ShardKey
    batches: tuple[tuple[Timed, ...], ...]

    @property
    def utterances(self) -> Iterator[Timed]:
        """All utterances, in the order of the shard."""
        return (timed for batch in self.batches for timed in batch)

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return total_seconds(self.batches)

    @functools.cached_property
    def digest(self) -> str:
        """Digest, in hex, of the utterances and of their batches."""
        rows = [tuple(row.values()) for row in _rows(self)]
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    @property
    def is_streamed(self) -> bool:
        """True if its audio comes with streams; a plan has no other utterances then."""
        return next(self.utterances).utterance.container == "stream"

    def without(self, ids: Collection[str]) -> PlannedShard:
        """The shard without some utterances."""
        if not ids:
            return self
        batches = (tuple(t for t in batch if t.utterance.id not in ids) for batch in self.batches)
        return dataclasses.replace(self, batches=tuple(batch for batch in batches if batch))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanLimits:
    """Sizes of batches and shards.

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
    utterances: Iterable[Timed],
    num_bytes: Callable[[float], int],
    limits: PlanLimits,
    *,
    generation: int = 0,
) -> list[PlannedShard]:
    """Shards of whole batches.

    Args:
        utterances: Utterances to be extracted.
        num_bytes: Bytes that the representation of so many seconds takes.
        limits: Sizes of batches and shards. A shard is over its limits by less than a batch.
        generation: Number of the plan in the store.
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
        PlannedShard(key=ShardKey(generation, number), batches=tuple(batches))
        for number, batches in enumerate(shards)
        if batches
    ]


def total_seconds(batches: Iterable[Sequence[Timed]]) -> float:
    """Seconds of audio in batches."""
    return sum(timed.seconds for batch in batches for timed in batch)


def padded_seconds(batches: Iterable[Sequence[Timed]]) -> float:
    """Seconds that the model computes for batches, padding included."""
    return sum(len(batch) * max(timed.seconds for timed in batch) for batch in batches)


def write_plan(folder: Folder, shards: Sequence[PlannedShard]) -> None:
    """Write the plan of one run whole: a run that goes on encodes the same batches.

    Raises:
        OutputError: It cannot be written.
    """
    import pyarrow.parquet

    rows = [row for shard in shards for row in _rows(shard)]
    table = pyarrow.Table.from_pylist(rows, schema=_schema())

    def write(temporary: Path) -> None:
        pyarrow.parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)

    folder.write_whole(plan_file(shards[0].key.generation), write)


def plan_numbers(folder: Folder) -> list[int]:
    """Numbers of the runs that have left a plan, in order; a damaged one may be missing."""
    return sorted(
        number for name in folder.sizes(PLANS) if (number := parse_plan_file(name)) is not None
    )


def read_plan(folder: Folder, number: int) -> list[PlannedShard]:
    """Read the shards that one run planned.

    Raises:
        StoreError: The plan cannot be read.
    """
    rows = _table(folder, number).to_pylist()
    return [
        PlannedShard(
            key=ShardKey(number, shard),
            batches=tuple(
                tuple(map(_timed, batch))
                for _, batch in itertools.groupby(of_shard, itemgetter("batch"))
            ),
        )
        for shard, of_shard in itertools.groupby(rows, itemgetter("shard"))
    ]


def planned_keys(folder: Folder, number: int) -> set[ShardKey]:
    """The shards of one run, without what they hold: of millions of rows that is little.

    Raises:
        StoreError: The plan cannot be read.
    """
    shards = _table(folder, number)["shard"].unique().to_pylist()
    return {ShardKey(number, shard) for shard in shards}


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


def _rows(shard: PlannedShard) -> Iterator[dict[str, Any]]:
    for number, batch in enumerate(shard.batches):
        for timed in batch:
            yield _row(timed, shard.key.shard, number)


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
