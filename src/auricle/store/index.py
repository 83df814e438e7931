"""Index of a store: locations of arrays, in a part per shard, and merged in one file."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from auricle.errors import StoreError
from auricle.store.folder import FileDigest, Folder
from auricle.store.layout import DATA, INDEX, PARTS, SHARDS, ShardKey, StoreMeta, parse_stem

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

FILES_KEY = b"auricle_files"
VERSION_KEY = b"auricle_version"
META_KEY = b"auricle_meta"
DIGEST_KEY = b"auricle_sha256"
"""Of the values of the others: Parquet's checksums do not cover them."""

PART_REMEDY = "run the same extraction again, which writes this shard again"
PLAN_REMEDY = (
    "remove it, and streams.json where there is one, and run the same extraction again, which "
    "plans what is not done"
)
INDEX_REMEDY = "run the same extraction again, which merges it again"

SHARD_REMEDY = "run the same extraction again, which writes it again"
CHANGED_REMEDY = f"remove it and {SHARD_REMEDY}"
"""Of a file whose size is as it was: runs compare no more than that."""

NUM_READERS = 16
PARTS_AT_ONCE = 32

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int16": 2, "int32": 4, "int64": 8}
"""Types that a store may hold, and bytes of one value."""


class IndexRow(NamedTuple):
    """Location of one array, and record of the audio that it was made from.

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
        seconds: Its length; None where that was not known.
        model_sha256: Digest of the encoder's family, configuration and weights.
        channel: Channel that was encoded, counted from 0; None for the mean of all.
        part_seconds: Length of the part of the source that was asked for; None for all up to its
            end.
        source_bytes: Size of the audio file that was encoded (a member, a row's), in bytes. None,
            as in the next two, where the library that wrote the row kept no such record.
        source_mtime_ns: Modification time of the file or archive then, in nanoseconds since 1970;
            None where there is none too.
        source_sha256: Digest, in hex, of the audio file that was encoded.
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
    channel: int | None = None
    part_seconds: float | None = None
    source_bytes: int | None = None
    source_mtime_ns: int | None = None
    source_sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class IndexPart:
    """One shard's part of the index: its rows, its files by name, and meta.json of its store."""

    key: ShardKey
    rows: pyarrow.Table
    files: Mapping[str, FileDigest]
    library_version: str
    meta: StoreMeta | None


def index_schema() -> pyarrow.Schema:
    """Names and types of the index's columns, in their order."""
    import pyarrow as pa

    types: dict[str, Any] = {
        "offset": pa.int64(),
        "frames": pa.int64(),
        "dim": pa.int64(),
        "start": pa.float64(),
        "seconds": pa.float64(),
        "channel": pa.int64(),
        "part_seconds": pa.float64(),
        "source_bytes": pa.int64(),
        "source_mtime_ns": pa.int64(),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in IndexRow._fields])


def _completed(table: pyarrow.Table, columns: Sequence[str]) -> pyarrow.Table:
    """A table with `columns`, empty ones for those that earlier versions did not write.

    Raises:
        KeyError: It lacks another column.
    """
    import pyarrow as pa

    schema = index_schema()
    optional = IndexRow._field_defaults.keys() - set(table.column_names)
    for name in (name for name in columns if name in optional):
        empty = pa.nulls(table.num_rows, schema.field(name).type)
        table = table.append_column(schema.field(name), empty)
    return table.select(list(columns))


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
    meta: StoreMeta | None = None,
) -> None:
    """Write the part of a shard whose files are whole: from now on the shard counts.

    `meta` is kept in it, so that a meta.json that is lost can be restored.

    Raises:
        OutputError: It cannot be written.
    """
    import pyarrow.parquet as pq

    metadata = {
        FILES_KEY: msgspec.json.encode(dict(files)),
        VERSION_KEY: library_version.encode(),
    }
    if meta is not None:
        metadata[META_KEY] = msgspec.json.encode(msgspec.structs.replace(meta, closed=False))
    metadata[DIGEST_KEY] = _digest_of(metadata)
    table = rows_table(rows).replace_schema_metadata(metadata)

    def write(temporary: Path) -> None:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)

    folder.write_whole(key.part, write)


def read_part(folder: Folder, key: ShardKey) -> IndexPart:
    """Read a part.

    Raises:
        StoreError: It is not there or damaged.
    """
    import pyarrow as pa

    table = read_checked(folder, key.part, PART_REMEDY)
    metadata = table.schema.metadata or {}
    try:
        if metadata[DIGEST_KEY] != _digest_of(metadata):
            raise ValueError("what it says of its files has changed")
        files = msgspec.json.decode(metadata[FILES_KEY], type=dict[str, FileDigest])
        version = metadata[VERSION_KEY].decode()
        meta = metadata.get(META_KEY)
        found = None if meta is None else msgspec.json.decode(meta, type=StoreMeta)
        whole = _completed(table, IndexRow._fields)
        rows = whole.replace_schema_metadata(None).cast(index_schema())
    except (KeyError, ValueError, msgspec.DecodeError, pa.ArrowException) as error:
        raise StoreError(
            f"{folder.where(key.part)} cannot be understood: {error!r}; {PART_REMEDY}"
        ) from error
    return IndexPart(key=key, rows=rows, files=files, library_version=version, meta=found)


def _digest_of(metadata: Mapping[bytes, bytes]) -> bytes:
    values = (metadata.get(key, b"") for key in (FILES_KEY, VERSION_KEY, META_KEY))
    return hashlib.sha256(b"\n".join(values)).hexdigest().encode()


def read_checked(folder: Folder, name: str, remedy: str) -> pyarrow.Table:
    """Read all of a small Parquet file, and compare its checksums.

    Raises:
        StoreError: It is not there or damaged; the message ends with `remedy`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with folder.open(name) as file:
            content = file.read()
        # Read from memory: what tells a damaged file is then all that can go wrong.
        return pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{folder.where(name)} cannot be read: {error}; {remedy}") from error


def read_parts(folder: Folder, keys: Sequence[ShardKey]) -> Iterator[IndexPart | StoreError]:
    """Each part, or what is wrong with it, in the order of `keys`, a bounded number at once.

    Threads wait for places that are far away.
    """

    def attempt(key: ShardKey) -> IndexPart | StoreError:
        try:
            return read_part(folder, key)
        except StoreError as error:
            return error

    for first in range(0, len(keys), PARTS_AT_ONCE):
        # No thread is left to whoever finalises a generator that is not used up.
        with ThreadPoolExecutor(NUM_READERS) as pool:
            parts = list(pool.map(attempt, keys[first : first + PARTS_AT_ONCE]))
        yield from parts


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
            whole = pq.ParquetFile(file, page_checksum_verification=True)
            for batch in whole.iter_batches(columns=list(columns)):
                table = _completed(pa.Table.from_batches([batch]), columns)
                yield from table.to_batches()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise StoreError(
            f"{folder.where(INDEX)} cannot be read: {error}; {INDEX_REMEDY}"
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


@dataclasses.dataclass(frozen=True)
class Damage:
    """A file of a store that has changed since it was written, the change, and the remedy."""

    file: str
    reason: str
    remedy: str


def completed_shards(folder: Folder) -> frozenset[ShardKey]:
    """Shards that are done: their part is whole, and their files have the sizes that it says.

    All others are to be written. Contents are not read: `verify` does that.
    """
    sizes = shard_sizes(folder)
    done = set()
    keys = part_keys(folder)
    for key, part in zip(keys, read_parts(folder, keys), strict=True):
        if isinstance(part, StoreError):
            damage: Damage | None = unreadable(key.part, part, PART_REMEDY)
        else:
            damage = size_damage(part.files, sizes)
        if damage is None:
            done.add(key)
        else:
            logger.warning("%s: %s; its shard is written again", damage.file, damage.reason)
    return frozenset(done)


def size_damage(files: Mapping[str, FileDigest], sizes: Mapping[str, int]) -> Damage | None:
    """Find a file of a shard whose size is not that of its part; None where all are."""
    for name, digest in files.items():
        found = sizes.get(name)
        if found is None:
            return Damage(name, "is not there", SHARD_REMEDY)
        if found != digest.size:
            return Damage(name, f"has {found} bytes, expected {digest.size}", SHARD_REMEDY)
    return None


def meta_of_parts(folder: Folder) -> StoreMeta | None:
    """Read meta.json as the first part of the index that can be read remembers it."""
    for part in read_parts(folder, part_keys(folder)):
        if not isinstance(part, StoreError) and part.meta is not None:
            return part.meta
    return None


def unreadable(name: str, error: StoreError, remedy: str) -> Damage:
    if isinstance(error.__cause__, FileNotFoundError):
        return Damage(name, "is not there", remedy)
    return Damage(name, str(error).removesuffix(f"; {remedy}"), remedy)


def shard_sizes(folder: Folder) -> dict[str, int]:
    return {**folder.sizes(SHARDS), **folder.sizes(DATA)}
