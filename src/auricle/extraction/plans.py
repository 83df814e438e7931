"""Plans on disk: what was to be encoded, in which batches, decided once.

A run that is killed and started again encodes the same batches, and so gives the same bytes. What
is new in a later run gets a plan of its own, the next generation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from auricle.corpus.utterance import Container, Utterance
from auricle.errors import StoreError
from auricle.extraction.plan import ShardPlan, Timed
from auricle.extraction.store.folder import Folder
from auricle.extraction.store.index import PLAN_REMEDY, read_checked
from auricle.extraction.store.layout import PLANS, ShardKey, parse_plan_file, plan_file

if TYPE_CHECKING:
    import pyarrow


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
