"""The index: rows that say where arrays lie, in parts, one per shard, and all together."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from auricle.extraction.store.errors import StoreError
from auricle.extraction.store.folder import FileDigest, Folder
from auricle.extraction.store.layout import INDEX, PARTS, ShardKey, parse_stem

if TYPE_CHECKING:
    import pyarrow

FILES_KEY = b"auricle_files"
VERSION_KEY = b"auricle_version"

NUM_READERS = 16
PARTS_AT_ONCE = 32

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8}
"""Types that a store may hold, and bytes of one value."""


class IndexRow(NamedTuple):
    """Where one array lies.

    Attributes:
        id: Utterance.
        layer: Which of its arrays.
        shard: File name below the store.
        offset: Bytes from the start of the file to the array's values, which lie row after row,
            little-endian; -1 where they do not.
        frames: Rows.
        dim: Columns.
        dtype: Type of the values.
        source: File, archive or data set that the audio came from.
        start: Where the utterance begins in it, in seconds.
        seconds: How long it is; None where nobody said so.
        model_sha256: Digest of the encoder's family, configuration and weights.
    """

    id: str
    layer: str
    shard: str
    offset: int
    frames: int
    dim: int
    dtype: str
    source: str
    start: float
    seconds: float | None
    model_sha256: str


@dataclasses.dataclass(frozen=True)
class Part:
    """One shard's part of the index: its rows, and its files by name."""

    key: ShardKey
    rows: pyarrow.Table
    files: Mapping[str, FileDigest]
    library_version: str


def index_schema() -> pyarrow.Schema:
    """Names and types of the index's columns, in their order."""
    import pyarrow as pa

    types: dict[str, Any] = {
        "offset": pa.int64(),
        "frames": pa.int64(),
        "dim": pa.int64(),
        "start": pa.float64(),
        "seconds": pa.float64(),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in IndexRow._fields])


def rows_table(rows: Sequence[IndexRow]) -> pyarrow.Table:
    """Rows as a table of the index's schema."""
    import pyarrow as pa

    schema = index_schema()
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def write_part(
    folder: Folder,
    key: ShardKey,
    rows: Sequence[IndexRow],
    files: Mapping[str, FileDigest],
    *,
    library_version: str,
) -> None:
    """Write the part of a shard whose files are whole: from now on the shard counts.

    Raises:
        OutputError: It cannot be written.
    """
    import pyarrow.parquet as pq

    metadata = {
        FILES_KEY: msgspec.json.encode(dict(files)),
        VERSION_KEY: library_version.encode(),
    }
    table = rows_table(rows).replace_schema_metadata(metadata)

    def write(temporary: Path) -> None:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)

    folder.write_whole(key.part, write)


def read_part(folder: Folder, key: ShardKey) -> Part:
    """Read a part.

    Raises:
        StoreError: It is not there or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with folder.open(key.part) as file:
            text = file.read()
        # Read from memory: what tells a damaged file is then all that can go wrong.
        table = pq.ParquetFile(io.BytesIO(text), page_checksum_verification=True).read()
        metadata = table.schema.metadata or {}
        files = msgspec.json.decode(metadata[FILES_KEY], type=dict[str, FileDigest])
        version = metadata[VERSION_KEY].decode()
        rows = table.replace_schema_metadata(None).cast(index_schema())
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise StoreError(
            f"{folder.where(key.part)} cannot be read: {error}; run the extraction again, which "
            "makes this shard anew"
        ) from error
    return Part(key=key, rows=rows, files=files, library_version=version)


def read_parts(folder: Folder, keys: Sequence[ShardKey]) -> Iterator[Part | StoreError]:
    """Each part, or what is wrong with it, in the order of `keys`, a bounded number at once.

    Threads wait for places that are far away.
    """

    def attempt(key: ShardKey) -> Part | StoreError:
        try:
            return read_part(folder, key)
        except StoreError as error:
            return error

    with ThreadPoolExecutor(NUM_READERS) as pool:
        for first in range(0, len(keys), PARTS_AT_ONCE):
            yield from pool.map(attempt, keys[first : first + PARTS_AT_ONCE])


def part_tables(folder: Folder) -> Iterator[pyarrow.Table]:
    """Rows of all parts.

    Raises:
        StoreError: A part is damaged.
    """
    for part in read_parts(folder, part_keys(folder)):
        if isinstance(part, StoreError):
            raise part
        yield part.rows


def part_keys(folder: Folder) -> list[ShardKey]:
    """Shards that have a part, whole or not, in their order."""
    stems = (name.rpartition("/")[2].removesuffix(".parquet") for name in folder.sizes(PARTS))
    return sorted(key for stem in stems if (key := parse_stem(stem)) is not None)


def index_batches(
    folder: Folder, columns: Sequence[str] = IndexRow._fields
) -> Iterator[pyarrow.RecordBatch]:
    """Rows of a closed store's index, sorted by id, a bounded number of them at once.

    Raises:
        StoreError: The index is not there or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with folder.open(INDEX) as file:
            yield from pq.ParquetFile(file).iter_batches(columns=list(columns))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(
            f"{folder.where(INDEX)} cannot be read: {error}; remove it and run the extraction "
            "again, which merges it anew"
        ) from error


def read_index(
    folder: Folder, *, closed: bool, columns: Sequence[str] = IndexRow._fields
) -> pyarrow.Table:
    """All rows, sorted by id: of a closed store's index, or of the parts that are there.

    Raises:
        StoreError: The index or a part is damaged or not there.
    """
    import pyarrow as pa

    schema = pa.schema([index_schema().field(name) for name in columns])
    if closed:
        return pa.Table.from_batches(index_batches(folder, columns), schema=schema)
    tables = [rows.select(columns) for rows in part_tables(folder)]
    return sorted_rows(pa.concat_tables([schema.empty_table(), *tables]))


def sorted_rows(table: pyarrow.Table) -> pyarrow.Table:
    """Rows by id; the layers of an utterance keep their order, for the sort is stable."""
    import pyarrow.compute as pc

    return table.take(pc.sort_indices(table["id"]))
