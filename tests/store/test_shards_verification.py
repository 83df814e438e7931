from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.errors import StoreError
from auricle.extraction.writers import open_format
from auricle.store.folder import LocalFolder
from auricle.store.index import INDEX_REMEDY, SHARD_REMEDY, Damage, completed_shards
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.shards import verify
from auricle.store.writer import StoreWriter

KEYS = [ShardKey(0, 0), ShardKey(0, 1), ShardKey(0, 2)]


@pytest.fixture(params=["store", "npy", "hdf5"])
def store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
) -> Path:
    meta = make_meta(format=request.param)
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    for key in KEYS:
        writer.write(key, make_items(meta, [f"{key.shard}/a", f"{key.shard}/b"], seed=key.shard))
    writer.close()
    return tmp_path


def file_of(store: Path, number: int) -> Path:
    folder = LocalFolder(store)
    names = [*folder.sizes("shards"), *folder.sizes("data")]
    return store / next(name for name in names if f"{number:06d}." in name or f"/{number}/" in name)


def test_a_whole_store_is_whole(store: Path) -> None:
    assert completed_shards(LocalFolder(store)) == set(KEYS)
    assert verify(LocalFolder(store)) == []


def test_cut_shards_are_found_at_once(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = file_of(store, 1)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    assert completed_shards(LocalFolder(store)) == {KEYS[0], KEYS[2]}
    reason = f"has {size - 1} bytes, expected {size}"
    assert reason in caplog.text
    name = path.relative_to(store).as_posix()
    assert verify(LocalFolder(store)) == [Damage(name, reason, SHARD_REMEDY)]
    path.unlink()
    assert completed_shards(LocalFolder(store)) == {KEYS[0], KEYS[2]}
    assert [damage.reason for damage in verify(LocalFolder(store))] == ["is not there"]


def test_a_flipped_byte_is_found_by_verify(store: Path) -> None:
    path = file_of(store, 2)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert completed_shards(LocalFolder(store)) == set(KEYS)
    (damage,) = verify(LocalFolder(store))
    assert damage.file == path.relative_to(store).as_posix()
    assert "has sha256" in damage.reason


def test_a_damaged_part_does_not_count(store: Path) -> None:
    path = store / KEYS[0].part
    path.write_bytes(path.read_bytes()[:-5])
    assert completed_shards(LocalFolder(store)) == {KEYS[1], KEYS[2]}
    assert [damage.file for damage in verify(LocalFolder(store))] == [KEYS[0].part]


def test_an_index_that_lacks_rows_is_found(store: Path) -> None:
    (store / KEYS[2].part).unlink()
    (damage,) = verify(LocalFolder(store))
    assert damage == Damage("index.parquet", "has 6 rows, but parts/ has 4", INDEX_REMEDY)
    (store / "index.parquet").write_bytes(b"PAR1")
    (damage,) = verify(LocalFolder(store))
    assert damage.file == "index.parquet"
    assert "merges it again" in damage.remedy


def test_what_is_no_store_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no meta.json"):
        verify(LocalFolder(tmp_path))
