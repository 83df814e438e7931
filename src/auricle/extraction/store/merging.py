"""From parts to one sorted index, in bounded memory however many there are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import OutputError
from auricle.extraction.store.folder import Folder
from auricle.extraction.store.index import index_schema, part_tables, sorted_rows
from auricle.extraction.store.layout import INDEX

if TYPE_CHECKING:
    import pyarrow

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
    """How many rows of a sorted block have an id that is not past `pivot`."""
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
