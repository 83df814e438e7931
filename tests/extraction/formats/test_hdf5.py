from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from auricle.errors import OutputError
from auricle.extraction.store.layout import ShardKey, StoreMeta
from auricle.extraction.store.writer import StoreWriter

FILE = "shards/00000-000000.h5"


def test_h5py_reads_a_dataset_per_utterance(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta(format="hdf5", dtype="float16")
    items = make_items(meta, ["speaker/é", "b", "c.d"])
    StoreWriter.begin(tmp_path, meta).write(ShardKey(0, 0), items)
    with h5py.File(tmp_path / FILE) as file:
        for utterance, arrays in items:
            np.testing.assert_array_equal(file[utterance.id][:], arrays["hidden_12"].numpy())


@pytest.mark.parametrize("dims", [{"only": 4}, {"z": 5, "a": 3}])
def test_every_dataset_says_whose_it_is_whatever_the_id(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    hostile_ids: tuple[str, ...],
    dims: dict[str, int],
) -> None:
    meta = make_meta(dims, format="hdf5")
    names = [*hostile_ids, "plain/z"]
    items = make_items(meta, names)
    StoreWriter.begin(tmp_path, meta).write(ShardKey(0, 0), items)
    found: dict[tuple[str, str], np.ndarray] = {}

    def collect(_: str, node: h5py.Dataset | h5py.Group) -> None:
        if isinstance(node, h5py.Dataset):
            found[node.attrs["id"], node.attrs["layer"]] = node[:]

    with h5py.File(tmp_path / FILE) as file:
        file.visititems(collect)
        assert ("plain%2Fbelow" in file) == (len(dims) == 1)
    assert len(found) == len(names) * len(dims)
    for utterance, arrays in items:
        for layer, x in arrays.items():
            np.testing.assert_array_equal(found[utterance.id, layer], x.numpy())


def test_what_h5py_says_of_a_full_disk_is_an_output_error(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meta = make_meta(format="hdf5")
    writer = StoreWriter.begin(tmp_path, meta)

    def fail(self: h5py.File) -> None:
        raise RuntimeError("Can't decrement id ref count (No space left on device)")

    close = h5py.File.close
    monkeypatch.setattr(h5py.File, "__exit__", lambda self, *_: (close(self), fail(self)))
    with pytest.raises(OutputError, match="cannot write .*No space left"):
        writer.write(ShardKey(0, 0), make_items(meta, ["a"]))
    assert list(writer.folder.sizes("shards")) == []
