"""Writer of a store: shards that count once their part is written, then the merged index."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from auricle.corpus.utterance import Fingerprint, Utterance
from auricle.errors import OutputError
from auricle.store.folder import Folder, open_folder
from auricle.store.index import (
    IndexRow,
    completed_shards,
    index_batches,
    index_schema,
    meta_of_parts,
    part_tables,
    read_part,
    sorted_rows,
    write_part,
)
from auricle.store.layout import (
    ERRORS,
    INDEX,
    META,
    ShardKey,
    read_meta,
    refuse_difference,
    write_meta,
)
from auricle.store.segments import Segments
from auricle.store.shards import ShardFormat, ShardMaps, path_text

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor

    from auricle.store.shards import Item, WrittenShard


logger = logging.getLogger(__name__)


class StoreWriter:
    """Writes shards into a store that `begin` has prepared.

    It can be pickled: any number of processes write to one store, each shard by one of them.

    Args:
        folder: Location of the store.
        shard_format: Writes the shards, of the store that its `meta` describes.
    """

    def __init__(self, folder: Folder, shard_format: ShardFormat) -> None:
        self.folder = folder
        self.format = shard_format
        self.meta = shard_format.meta

    @classmethod
    def begin(
        cls, location: str | Path, shard_format: ShardFormat, *, writes: bool = True
    ) -> StoreWriter:
        """Prepare a new store, or go on with one, which stays as it is until `reopen`.

        A meta.json that is not there is restored from the parts of the index.
        Without `writes` the same is checked, and nothing is written.

        Raises:
            OutputError: The folder cannot be written, holds something else, or holds another
                extraction; the message names the field that differs.
            StoreError: Its meta.json is damaged.
            MissingExtraError: A package that the place needs is not installed.
        """
        folder = open_folder(location)
        meta = shard_format.meta
        writer = cls(folder, shard_format)
        found = read_meta(folder)
        if found is not None:
            refuse_difference(folder, found, meta)
            return writer
        if (described := meta_of_parts(folder)) is not None:
            refuse_difference(folder, described, meta)
            if writes:
                write_meta(folder, described)
            return writer
        # What a run leaves of which everything failed claims nothing.
        if strangers := [name for name in folder.sizes() if name != ERRORS]:
            raise OutputError(
                f"{folder.location} is not empty and no store: it holds {strangers[0]}, and no "
                "meta.json; take another folder"
            )
        if writes:
            write_meta(folder, msgspec.structs.replace(meta, closed=False))
        return writer

    def completed(self) -> frozenset[ShardKey]:
        """Shards that are done; all others are to be written."""
        return completed_shards(self.folder)

    def reopen(self) -> None:
        """Make ready for more shards: to be called before the first is written.

        From now on the index does not hold all. What killed processes left is removed; so no
        other run may be writing to the store.
        """
        self.folder.remove_debris()
        self._set_closed(False)

    def write(
        self, key: ShardKey, items: Sequence[Item], *, library_version: str | None = None
    ) -> None:
        """Write a shard and then its part: when this returns it counts, before it does not.

        Args:
            key: The shard.
            items: What it holds; empty where all its utterances have failed.
            library_version: Version that encoded them; None for this one.

        Raises:
            OutputError: It cannot be written, or an array is not what meta.json says.
        """
        seen: set[str] = set()
        for utterance, arrays in items:
            if utterance.id in seen:
                raise OutputError(f"the id {utterance.id!r} comes twice in a shard; rename one")
            seen.add(utterance.id)
            self._check(utterance, arrays)
        # A part of a shard that was cut would vouch for what is written now.
        self.folder.remove(key.part)
        written = self.format.write(self.folder, key, items) if items else None
        write_part(
            self.folder,
            key,
            self._rows(items, written) if written else [],
            written.files if written else {},
            library_version=library_version or self.meta.library_version,
            meta=self.meta,
        )

    def discard(self, key: ShardKey, ids: Collection[str]) -> bool:
        """Remove utterances from a shard that is done, by writing it again without them.

        Returns:
            Whether it is still done. It is not where its files are not as they were written: then
            nothing of it is taken over, and all of it is to be encoded again.

        Raises:
            OutputError: It cannot be written.
        """
        part = read_part(self.folder, key)
        if any(self.folder.digest(name) != digest for name, digest in part.files.items()):
            logger.warning("shard %s has changed; all of it is encoded again", key.stem)
            self.folder.remove(key.part)
            return False
        maps = ShardMaps(self.folder, compression=self.meta.compression)
        items: dict[str, tuple[Utterance, dict[str, Tensor]]] = {}
        for row in part.rows.to_pylist():
            if row["id"] not in ids:
                _, arrays = items.setdefault(row["id"], (_utterance(row), {}))
                shape = row["frames"], row["dim"]
                arrays[row["layer"]] = maps.array(row["shard"], row["offset"], shape, row["dtype"])
        self.folder.remove(key.part)
        if not items:
            for name in part.files:
                self.folder.remove(name)
        self.write(key, list(items.values()), library_version=part.library_version)
        for name in part.files.keys() - read_part(self.folder, key).files.keys():
            self.folder.remove(name)
        return True

    def abandon(self) -> None:
        """Leave the folder of a store that holds nothing to whatever comes next.

        What is said of failures stays.
        """
        for name in self.folder.sizes():
            if name not in (META, ERRORS):
                self.folder.remove(name)
        self.folder.remove_debris()
        self.folder.remove(META)  # last: a folder without it is no store

    def close(self, order: Sequence[str] = ()) -> int:
        """Merge all parts into index.parquet and say how many rows it has.

        As for `reopen`, no other run may be writing to the store.

        Args:
            order: Ids in the order of the corpus, for formats that keep it.

        Raises:
            OutputError: The index cannot be written.
            StoreError: A part is damaged.
        """
        Segments(self.folder, self.meta).remove()
        self.folder.remove_debris()
        num_rows = merge_parts(self.folder)
        self.format.finish(self.folder, lambda: index_batches(self.folder), order)
        self._set_closed(True)
        return num_rows

    def _set_closed(self, closed: bool) -> None:
        # The file's own, not this run's: it says which version began the store.
        found = read_meta(self.folder) or self.meta
        if found.closed != closed:
            write_meta(self.folder, msgspec.structs.replace(found, closed=closed))

    def _check(self, utterance: Utterance, arrays: Mapping[str, Tensor]) -> None:
        expected = {layer.name: layer.dim for layer in self.meta.layers}
        if arrays.keys() != expected.keys():
            raise OutputError(
                f"{utterance.id} has the layers {', '.join(arrays)}, but the store keeps "
                f"{', '.join(expected)}"
            )
        for layer, x in arrays.items():
            dtype = str(x.dtype).removeprefix("torch.")
            if x.ndim != 2 or x.shape[1] != expected[layer] or dtype != self.meta.dtype:
                raise OutputError(
                    f"{layer} of {utterance.id} is {dtype} {tuple(x.shape)}, but the store keeps "
                    f"{self.meta.dtype} (frames, {expected[layer]})"
                )

    def _rows(self, items: Sequence[Item], written: WrittenShard) -> list[IndexRow]:
        by_id = {utterance.id: (utterance, arrays) for utterance, arrays in items}
        rows = []
        for place in written.placements:
            utterance, arrays = by_id[place.id]
            frames, dim = arrays[place.layer].shape
            row = IndexRow(
                id=place.id,
                layer=place.layer,
                shard=place.file,
                offset=place.offset,
                frames=frames,
                dim=dim,
                dtype=self.meta.dtype,
                source=path_text(utterance.origin),
                start=utterance.start,
                seconds=utterance.seconds,
                model_sha256=self.meta.model_sha256,
                channel=utterance.channel,
                **_record(utterance.fingerprint),
            )
            rows.append(row)
        return rows


def _utterance(row: Mapping[str, Any]) -> Utterance:
    """The utterance that a row of the index is of, as far as it says."""
    fingerprint = None
    if row["source_sha256"] is not None:
        fingerprint = Fingerprint(
            num_bytes=row["source_bytes"],
            mtime_ns=row["source_mtime_ns"],
            sha256=row["source_sha256"],
            part_seconds=row["part_seconds"],
        )
    return Utterance(
        id=row["id"],
        source=row["source"],
        start=row["start"],
        seconds=row["seconds"],
        channel=row["channel"],
        fingerprint=fingerprint,
    )


def _record(fingerprint: Fingerprint | None) -> dict[str, Any]:
    """The columns of the index that say what was encoded."""
    if fingerprint is None:
        return {}
    return {
        "part_seconds": fingerprint.part_seconds,
        "source_bytes": fingerprint.num_bytes,
        "source_mtime_ns": fingerprint.mtime_ns,
        "source_sha256": fingerprint.sha256,
    }


RUN_ROWS = 250_000
"""Rows sorted in memory at once."""

BLOCK_ROWS = 4096
"""Rows held of each sorted run while runs are merged: 100 million rows make 400 runs."""

ROW_GROUP_ROWS = 131_072


def merge_parts(folder: Folder, *, run_rows: int = RUN_ROWS, block_rows: int = BLOCK_ROWS) -> int:
    """Merge all parts into index.parquet, sorted by id, and say how many rows it has.

    Parts are read in runs of `run_rows` rows, each sorted and spilled to this machine's temporary
    folder; the runs are then merged block by block.

    Raises:
        StoreError: A part is damaged.
        OutputError: The index cannot be written.
    """
    num_rows = 0
    try:
        with tempfile.TemporaryDirectory(prefix="auricle-") as scratch:
            runs = list(_spilled_runs(folder, Path(scratch), run_rows, block_rows))

            def write(temporary: Path) -> None:
                nonlocal num_rows
                num_rows = _write_index(temporary, _merged([_blocks(run) for run in runs]))

            folder.write_whole(INDEX, write)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write temporary files for {folder.where(INDEX)}: {error.strerror or error}; "
            "let the environment variable TMPDIR name a folder that has space left, and run the "
            "same command again"
        ) from error
    return num_rows


def _spilled_runs(folder: Folder, scratch: Path, run_rows: int, block_rows: int) -> Iterator[Path]:
    import pyarrow as pa

    def spill() -> Path:
        path = scratch / f"{number}.arrow"
        table = sorted_rows(pa.concat_tables(tables)).combine_chunks()
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=block_rows)
        return path

    tables: list[pyarrow.Table] = []
    number = 0
    for rows in part_tables(folder):
        if tables and rows.num_rows + sum(table.num_rows for table in tables) > run_rows:
            yield spill()
            tables, number = [], number + 1
        tables.append(rows)
    if tables:
        yield spill()


def _blocks(path: Path) -> Iterator[pyarrow.Table]:
    import pyarrow as pa

    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        for index in range(reader.num_record_batches):
            block = pa.Table.from_batches([reader.get_batch(index)])
            if block.num_rows:
                yield block


def _merged(runs: list[Iterator[pyarrow.Table]]) -> Iterator[pyarrow.Table]:
    """Merge sorted runs: what is not past the smallest end of all their blocks can be given out."""
    import pyarrow as pa

    heads = [(block, run) for run in runs if (block := next(run, None)) is not None]
    while heads:
        pivot = min(block["id"][-1].as_py() for block, _ in heads)
        ready, remaining = [], []
        for block, run in heads:
            count = _rows_up_to(block, pivot)
            ready.append(block.slice(0, count))
            rest = block.slice(count) if count < block.num_rows else next(run, None)
            if rest is not None:
                remaining.append((rest, run))
        heads = remaining
        yield sorted_rows(pa.concat_tables(ready))


def _rows_up_to(block: pyarrow.Table, pivot: str) -> int:
    """Number of rows of a sorted block up to the id `pivot`."""
    import pyarrow.compute as pc

    # Arrow and Python order text alike: UTF-8 keeps the order of code points.
    return int(pc.sum(pc.less_equal(block["id"], pivot), min_count=0).as_py())


def _write_index(path: Path, tables: Iterator[pyarrow.Table]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_rows, held = 0, [index_schema().empty_table()]
    with pq.ParquetWriter(
        path, index_schema(), compression="zstd", write_page_checksum=True
    ) as writer:
        for table in tables:
            num_rows += table.num_rows
            held.append(table)
            if sum(each.num_rows for each in held) >= ROW_GROUP_ROWS:
                writer.write_table(pa.concat_tables(held))
                held = []
        if held:
            writer.write_table(pa.concat_tables(held))
    return num_rows
