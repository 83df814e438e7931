"""Plans on disk: what was to be encoded, in which batches, decided once.

A run that is killed and started again encodes the same batches, and so gives the same bytes. What
is new in a later run gets a plan of its own, the next generation.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from auricle.extraction.plan import ShardPlan, Timed
from auricle.extraction.store.errors import StoreError
from auricle.extraction.store.folder import Folder
from auricle.extraction.store.layout import PLANS, ShardKey, plan_file
from auricle.extraction.utterances import Container, Utterance

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
        pyarrow.parquet.write_table(table, temporary, compression="zstd")

    folder.write_whole(plan_file(generation.number), write)


def read_plans(folder: Folder) -> list[Generation]:
    """The plans of all runs, in order.

    Raises:
        StoreError: One cannot be read, or one is missing.
    """
    import pyarrow
    import pyarrow.parquet

    names = list(folder.sizes(PLANS))
    generations = []
    for number, name in enumerate(names):
        if name != plan_file(number):
            raise StoreError(
                f"{folder.where(name)} is there, but {plan_file(number)} is not; put it back, or "
                "extract to another folder"
            )
        try:
            with folder.open(name) as file:
                table = pyarrow.parquet.read_table(pyarrow.PythonFile(file))
            if not table.schema.equals(_schema()):
                raise StoreError(f"its columns are {', '.join(table.column_names)}")
            rows = table.to_pylist()
        except (OSError, pyarrow.ArrowInvalid, StoreError) as error:
            raise StoreError(
                f"{folder.where(name)} is not a readable plan ({error}); restore it, or extract "
                "to another folder"
            ) from error
        generations.append(Generation(number=number, shards=tuple(_shards(rows))))
    return generations


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
