from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from auricle.extraction.writers import open_format
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.writer import StoreWriter

if TYPE_CHECKING:
    import datasets  # which takes a second, in every worker

IDS = ["speaker/é", "b", "a"]


@pytest.fixture
def written(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> list:
    meta = make_meta({"z": 5, "a": 3}, format="arrow", dtype="float16")
    writer = StoreWriter.begin(tmp_path / "store", open_format(meta))
    items = make_items(meta, IDS)
    writer.write(ShardKey(0, 0), items[:2])
    writer.write(ShardKey(0, 1), items[2:])
    writer.close()
    return items


def check(found: datasets.Dataset, items: list) -> None:
    assert found.column_names == ["id", "source", "start", "seconds", "z", "a"]
    for layer, dim in (("z", 5), ("a", 3)):
        frame = found.features[layer].feature
        assert (frame.length, frame.feature.dtype) == (dim, "float16")
    # The library's own NumPy format makes float32 of halves.
    for row, (utterance, arrays) in zip(found.with_format("numpy"), items, strict=True):
        assert row["id"] == utterance.id
        assert row["source"] == utterance.source
        assert row["seconds"] == utterance.seconds
        for layer, x in arrays.items():
            np.testing.assert_array_equal(row[layer], x.numpy())


def test_load_from_disk_reads_the_store(tmp_path: Path, written: list) -> None:
    import datasets

    check(datasets.load_from_disk(str(tmp_path / "store")), written)


def test_load_dataset_reads_the_shards(tmp_path: Path, written: list) -> None:
    import datasets

    found = datasets.load_dataset(
        "arrow",
        data_files=str(tmp_path / "store" / "shards" / "*.arrow"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    check(found, written)


def test_another_content_has_another_fingerprint(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    import datasets

    prints = set()
    for name in ("a", "b"):
        meta = make_meta(format="arrow")
        writer = StoreWriter.begin(tmp_path / name, open_format(meta))
        writer.write(ShardKey(0, 0), make_items(meta, [name]))
        writer.close()
        prints.add(datasets.load_from_disk(str(tmp_path / name))._fingerprint)
    assert len(prints) == 2
