from __future__ import annotations

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from auricle.errors import StoreError
from auricle.extraction.store import merging
from auricle.extraction.store.folder import LocalFolder
from auricle.extraction.store.index import IndexRow, index_schema, read_index, write_part
from auricle.extraction.store.layout import ShardKey
from auricle.extraction.store.merging import merge_parts

LAYERS = ("z", "a")


def write_parts(folder: LocalFolder, *, num_parts: int, per_part: int) -> list[str]:
    names = [f"{index:04d}é" for index in range(num_parts * per_part)]
    random.Random(0).shuffle(names)
    for shard in range(num_parts):
        rows = [
            IndexRow(name, layer, f"s{shard}", 0, 1, 1, "float32", "x", 0.0, 1.0, "ab")
            for name in names[shard * per_part : (shard + 1) * per_part]
            for layer in LAYERS
        ]
        write_part(folder, ShardKey(0, shard), rows, {}, library_version="0")
    return sorted(names)


@pytest.mark.parametrize(
    ("run_rows", "block_rows", "group_rows"),
    [(1, 1, 1), (30, 7, 25), (45, 1000, 1000), (10_000, 10_000, 10_000)],
)
def test_any_number_of_runs_gives_the_same_index(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_rows: int,
    block_rows: int,
    group_rows: int,
) -> None:
    monkeypatch.setattr(merging, "ROW_GROUP_ROWS", group_rows)
    folder = LocalFolder(tmp_path)
    names = write_parts(folder, num_parts=9, per_part=11)
    num_rows = merge_parts(folder, run_rows=run_rows, block_rows=block_rows)
    assert num_rows == 9 * 11 * 2
    table = read_index(folder, closed=True)
    assert table["id"].to_pylist() == [name for name in names for _ in LAYERS]
    assert table["layer"].to_pylist() == list(LAYERS) * len(names)
    assert table.equals(read_index(folder, closed=False))


def test_row_groups_stay_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "ROW_GROUP_ROWS", 40)
    folder = LocalFolder(tmp_path)
    write_parts(folder, num_parts=4, per_part=50)
    merge_parts(folder, run_rows=100, block_rows=10)
    metadata = pq.read_metadata(tmp_path / "index.parquet")
    sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert sum(sizes) == 400
    assert max(sizes) <= 80
    assert min(sizes[:-1]) >= 40


def test_no_parts_and_empty_parts_give_an_empty_index(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    assert merge_parts(folder) == 0
    write_part(folder, ShardKey(0, 0), [], {}, library_version="0")
    assert merge_parts(folder) == 0
    assert read_index(folder, closed=True).schema == index_schema()


def test_a_damaged_part_stops_the_merge_and_leaves_the_old_index(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    write_parts(folder, num_parts=2, per_part=3)
    merge_parts(folder)
    before = (tmp_path / "index.parquet").read_bytes()
    (tmp_path / ShardKey(0, 1).part).write_bytes(b"cut")
    with pytest.raises(StoreError, match=r"00000-000001.parquet cannot be read"):
        merge_parts(folder)
    assert (tmp_path / "index.parquet").read_bytes() == before
