from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from auricle.errors import OutputError
from auricle.extraction.writers import open_format
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.writer import StoreWriter

FILE = "shards/00000-000000.h5"


def test_h5py_reads_a_dataset_per_utterance(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta(format="hdf5", dtype="float16")
    items = make_items(meta, ["speaker/é", "b", "c.d"])
    StoreWriter.begin(tmp_path, open_format(meta)).write(ShardKey(0, 0), items)
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
    StoreWriter.begin(tmp_path, open_format(meta)).write(ShardKey(0, 0), items)
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


def test_the_hdf5_library_writes_no_file_itself(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It crashes the process where the disk fills while it closes a file."""
    meta = make_meta(format="hdf5")
    writer = StoreWriter.begin(tmp_path, open_format(meta))

    def fail(path: Path, content: bytes) -> int:
        assert path.stat().st_size == 0
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match="cannot write .*No space left"):
        writer.write(ShardKey(0, 0), make_items(meta, ["a"]))
    assert list(writer.folder.sizes("shards")) == []
