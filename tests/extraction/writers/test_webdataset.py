from __future__ import annotations

import gc
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset

from auricle.extraction.writers import open_format
from auricle.extraction.writers.webdataset import sample_key
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.writer import StoreWriter


def read_by_webdataset(shards: list[str]) -> list[dict]:
    with warnings.catch_warnings():
        # WebDataset leaves closing its files to the collector of garbage.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
        gc.collect()
    return samples


def test_webdataset_reads_the_shards(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    hostile_ids: tuple[str, ...],
) -> None:
    meta = make_meta({"z": 5, "a": 3}, format="webdataset")
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    items = make_items(meta, hostile_ids)
    writer.write(ShardKey(0, 0), items[:7])
    writer.write(ShardKey(0, 1), items[7:])
    writer.close()
    shards = [str(path) for path in sorted((tmp_path / "shards").glob("*.tar"))]
    samples = read_by_webdataset(shards)
    assert [sample["json"]["id"] for sample in samples] == list(hostile_ids)
    for sample, (utterance, arrays) in zip(samples, items, strict=True):
        assert sample["__key__"] == sample_key(utterance.id)
        assert sample["json"]["start"] == utterance.start
        assert sample["json"]["seconds"] == utterance.seconds
        assert sample["json"]["source"] == utterance.source
        for layer, x in arrays.items():
            np.testing.assert_array_equal(sample[f"{layer}.npy"], x.numpy())


def test_members_say_nothing_of_the_machine_and_stay_in_the_folder(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    hostile_ids: tuple[str, ...],
) -> None:
    meta = make_meta(format="webdataset")
    StoreWriter.begin(tmp_path, open_format(meta)).write(
        ShardKey(0, 0), make_items(meta, hostile_ids)
    )
    with tarfile.open(tmp_path / "shards" / "00000-000000.tar") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.uname) == (0, 0, "")
            assert tarfile.data_filter(member, str(tmp_path)).name == member.name


@pytest.mark.parametrize(
    ("name", "key"),
    [("a/b", "a/b"), ("v1.0/a.b.c", "v1.0/a%2Eb%2Ec"), ("../a", "%2E%2E/a")],
)
def test_keys_end_where_webdataset_ends_them(name: str, key: str) -> None:
    assert sample_key(name) == key
