from __future__ import annotations

import errno
import gc
import os
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import kaldiio
import numpy as np
import pytest
import webdataset

from auricle.errors import OutputError
from auricle.extraction.writers import open_format
from auricle.extraction.writers.arrays import sample_key
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.writer import StoreWriter

HDF5_FILE = "shards/00000-000000.h5"
KALDI_IDS = ["speaker/é", "b", "a"]


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


def test_h5py_reads_a_dataset_per_utterance(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta(format="hdf5", dtype="float16")
    items = make_items(meta, ["speaker/é", "b", "c.d"])
    StoreWriter.begin(tmp_path, open_format(meta)).write(ShardKey(0, 0), items)
    with h5py.File(tmp_path / HDF5_FILE) as file:
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

    with h5py.File(tmp_path / HDF5_FILE) as file:
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


@pytest.mark.parametrize("pool", [None, "meanstd"])
def test_kaldiio_reads_ark_and_scp(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    pool: str | None,
) -> None:
    meta = make_meta(format="kaldi", pool=pool)
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    items = make_items(meta, KALDI_IDS)
    writer.write(ShardKey(0, 0), items[:2])
    writer.write(ShardKey(0, 1), items[2:])
    writer.close()
    by_scp = kaldiio.load_scp(str(tmp_path / "feats.scp"))
    assert list(by_scp) == sorted(KALDI_IDS)
    by_ark = dict(kaldiio.load_ark(str(tmp_path / "shards" / "00000-000000.ark")))
    assert list(by_ark) == KALDI_IDS[:2]
    for utterance, arrays in items:
        x = arrays["hidden_12"].numpy()
        expected = x[0] if pool else x  # a vector where there is one row
        np.testing.assert_array_equal(by_scp[utterance.id], expected)
        if utterance.id in by_ark:
            np.testing.assert_array_equal(by_ark[utterance.id], expected)


def test_several_layers_have_an_scp_each(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta({"z": 5, "a": 3}, format="kaldi")
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    items = make_items(meta, KALDI_IDS)
    writer.write(ShardKey(0, 0), items)
    writer.close()
    assert not (tmp_path / "feats.scp").exists()
    for layer in ("z", "a"):
        found = kaldiio.load_scp(str(tmp_path / f"feats.{layer}.scp"))
        assert len(found) == len(KALDI_IDS)
        for utterance, arrays in items:
            np.testing.assert_array_equal(found[utterance.id], arrays[layer].numpy())


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\u2003b", " a"])
def test_white_space_in_an_id_is_refused(name: str, make_meta: Callable[..., StoreMeta]) -> None:
    with pytest.raises(OutputError, match="Kaldi's ids hold no white space"):
        open_format(make_meta(format="kaldi")).check_id(name)
