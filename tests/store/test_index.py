from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from auricle.errors import StoreError
from auricle.store.folder import FileDigest, LocalFolder
from auricle.store.index import (
    PARTS_AT_ONCE,
    IndexRow,
    index_schema,
    part_keys,
    part_tables,
    read_index,
    read_part,
    read_parts,
    rows_table,
    write_part,
)
from auricle.store.layout import ShardKey

FILES = {"shards/00000-000000.safetensors": FileDigest(size=3, sha256="00" * 32)}


def row(name: str, layer: str = "a", seconds: float | None = 1.5) -> IndexRow:
    return IndexRow(name, layer, "shards/x", 64, 3, 4, "float32", "x.wav", 0.0, seconds, "ab")


def test_the_schema_is_that_of_the_page() -> None:
    assert [(field.name, str(field.type)) for field in index_schema()] == [
        ("id", "string"),
        ("layer", "string"),
        ("shard", "string"),
        ("offset", "int64"),
        ("frames", "int64"),
        ("dim", "int64"),
        ("dtype", "string"),
        ("source", "string"),
        ("start", "double"),
        ("seconds", "double"),
        ("model_sha256", "string"),
        ("channel", "int64"),
        ("part_seconds", "double"),
        ("source_bytes", "int64"),
        ("source_mtime_ns", "int64"),
        ("source_sha256", "string"),
    ]


def test_a_part_reads_back(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    rows = [row("b"), row("a", seconds=None)]
    write_part(folder, ShardKey(0, 1), rows, FILES, library_version="0.1.0")
    part = read_part(folder, ShardKey(0, 1))
    assert part.rows.equals(rows_table(rows))
    assert part.rows["seconds"].to_pylist() == [1.5, None]
    assert part.files == FILES
    assert part.library_version == "0.1.0"


def test_an_empty_part_reads_back(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    write_part(folder, ShardKey(0, 0), [], {}, library_version="0.1.0")
    assert read_part(folder, ShardKey(0, 0)).rows.num_rows == 0
    assert read_index(folder, closed=False).schema == index_schema()


def test_every_damage_to_a_part_is_found(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    key = ShardKey(0, 0)
    rows = [row(f"utterance-{index**3}", seconds=index / 7) for index in range(50)]
    write_part(folder, key, rows, FILES, library_version="0.1.0")
    path = tmp_path / key.part
    whole = path.read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(
            StoreError, match="cannot be (read|understood): .*run the same extraction again"
        ):
            read_part(folder, key)
    undamaged = rows_table(rows)
    for position in range(4, len(whole), 19):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        try:
            found = read_part(folder, key)
        except StoreError:
            continue
        # Some bytes, such as statistics, say nothing about the rows.
        assert found.rows.equals(undamaged)
        assert (found.files, found.library_version) == (FILES, "0.1.0")
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        read_part(folder, key)


def test_a_part_that_says_something_else_of_its_files_is_damaged(tmp_path: Path) -> None:
    folder, key = LocalFolder(tmp_path), ShardKey(0, 0)
    write_part(folder, key, [row("a")], FILES, library_version="0.1.0")
    table = pq.read_table(tmp_path / key.part)
    metadata = dict(table.schema.metadata)
    metadata[b"auricle_files"] = metadata[b"auricle_files"].replace(b'"size":', b'"size":1')
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / key.part)
    with pytest.raises(StoreError, match="says of its files has changed"):
        read_part(folder, key)


def test_parts_come_in_order_and_the_damaged_ones_as_errors(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    keys = [ShardKey(1, 0), ShardKey(0, 2), ShardKey(0, 1)]
    for key in keys:
        write_part(folder, key, [row(key.stem)], {}, library_version="0")
    (tmp_path / "parts" / "notes.parquet").write_text("")
    assert part_keys(folder) == sorted(keys)
    (tmp_path / ShardKey(0, 2).part).write_bytes(b"PAR1")
    found = list(read_parts(folder, part_keys(folder)))
    assert [isinstance(part, StoreError) for part in found] == [False, True, False]
    with pytest.raises(StoreError):
        list(part_tables(folder))
    assert PARTS_AT_ONCE > 1


def test_an_open_index_is_sorted_and_keeps_the_order_of_layers(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    layers = ("z", "m", "a")
    for shard, names in enumerate((("d", "b"), ("c", "a"))):
        rows = [row(name, layer) for name in names for layer in layers]
        write_part(folder, ShardKey(0, shard), rows, {}, library_version="0")
    table = read_index(folder, closed=False)
    assert table["id"].to_pylist() == [name for name in "abcd" for _ in layers]
    assert table["layer"].to_pylist() == list(layers) * 4


def test_a_closed_index_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"index.parquet cannot be read"):
        read_index(LocalFolder(tmp_path), closed=True)
