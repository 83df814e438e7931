from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from auricle.extraction.writers import open_format
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.writer import StoreWriter


def test_numpy_reads_a_file_per_utterance(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta(format="npy", dtype="float16")
    items = make_items(meta, ["speaker/é", "speaker"])
    StoreWriter.begin(tmp_path, open_format(meta)).write(ShardKey(0, 0), items)
    for name, (_, arrays) in zip(("speaker/é", "speaker"), items, strict=True):
        found = np.load(tmp_path / "data" / f"{name}.npy")
        np.testing.assert_array_equal(found, arrays["hidden_12"].numpy())
        assert found.dtype == np.float16


def test_several_layers_have_a_folder_each(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta({"z": 5, "a": 3}, format="npy")
    items = make_items(meta, ["u"])
    StoreWriter.begin(tmp_path, open_format(meta)).write(ShardKey(0, 0), items)
    for layer in ("z", "a"):
        found = np.load(tmp_path / "data" / layer / "u.npy")
        np.testing.assert_array_equal(found, items[0][1][layer].numpy())
