from __future__ import annotations

import builtins
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from auricle.errors import LayerError, MissingExtraError, StoreError, UnknownUtteranceError
from auricle.extraction.writers import open_format
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.reader import SortedIds
from auricle.store.reader import open as open_store
from auricle.store.writer import StoreWriter

IDS = ["c/3", "наука", "a/1", "b", "a"]


@pytest.fixture
def write(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> Callable[..., dict[str, dict[str, Tensor]]]:
    """Writes a store of two shards and says what is in it."""

    def make(*, close: bool = True, **fields: Any) -> dict[str, dict[str, Tensor]]:
        meta = make_meta(**fields)
        writer = StoreWriter.begin(tmp_path, open_format(meta))
        shards = make_items(meta, IDS[:3]), make_items(meta, IDS[3:], seed=1)
        for number, items in enumerate(shards):
            writer.write(ShardKey(0, number), items)
        if close:
            writer.close()
        return {utterance.id: arrays for items in shards for utterance, arrays in items}

    return make


@pytest.mark.parametrize("close", [True, False])
def test_gives_what_was_written_by_id_and_in_order(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]], close: bool
) -> None:
    expected = write(close=close)
    store = open_store(tmp_path)
    assert store.is_closed == close
    assert len(store) == 5
    assert store.ids == list(store) == sorted(IDS)
    for name, x in store.items():
        assert torch.equal(x, expected[name]["hidden_12"])
        assert torch.equal(store[name], x)
        assert store.num_frames(name) == len(x)
    assert "b" in store
    assert "d" not in store
    assert 3 not in store
    assert store.meta.model == "apc_mini"
    assert store.location == str(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64"])
def test_every_type_comes_back_as_it_was(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]], dtype: str
) -> None:
    expected = write(dtype=dtype, dims={"codes": 3})
    for name, x in open_store(tmp_path).items():
        assert isinstance(x, Tensor)
        assert x.dtype == getattr(torch, dtype)
        assert torch.equal(x, expected[name]["codes"])


def test_pooled_utterances_are_one_row(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]]
) -> None:
    expected = write(pool="mean")
    x = open_store(tmp_path).get("b")
    assert x.shape == (1, 6)
    assert torch.equal(x, expected["b"]["hidden_12"])


def test_several_layers_come_as_a_dict_or_by_name(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]]
) -> None:
    expected = write(dims={"z": 5, "a": 3, "m": 8})
    store = open_store(tmp_path)
    assert store.layers == ("z", "a", "m")
    found = store["a/1"]
    assert isinstance(found, dict)
    assert list(found) == ["z", "a", "m"]
    for layer, x in found.items():
        assert torch.equal(x, expected["a/1"][layer])
        assert torch.equal(store.get("a/1", layer=layer), x)
        assert store.num_frames("a/1", layer=layer) == len(x)
    with pytest.raises(LayerError, match="one of z, a, m, but is None"):
        store.get("a/1")
    with pytest.raises(LayerError, match="one of z, a, m, but is q"):
        store.get("a/1", layer="q")


def test_an_unknown_id_names_those_like_it(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]]
) -> None:
    write()
    store = open_store(tmp_path)
    with pytest.raises(UnknownUtteranceError, match="holds 5 utterances, but not 'a/1.wav'; .*a/1"):
        store["a/1.wav"]
    with pytest.raises(KeyError):
        store.get("")


def test_a_data_set_survives_workers(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]]
) -> None:
    expected = write()
    dataset = pickle.loads(pickle.dumps(open_store(tmp_path).dataset()))
    loader = DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=list)
    found = [pair for batch in loader for pair in batch]
    assert [name for name, _ in found] == sorted(IDS)
    for name, x in found:
        assert torch.equal(x, expected[name]["hidden_12"])


def test_a_data_set_of_several_layers(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]]
) -> None:
    expected = write(dims={"x": 2, "y": 3})
    store = open_store(tmp_path)
    name, x = store.dataset(layer="y")[0]
    assert name == "a"
    assert torch.equal(x, expected["a"]["y"])
    assert list(store.dataset()[1][1]) == ["x", "y"]
    with pytest.raises(IndexError):
        store.dataset()[5]
    with pytest.raises(LayerError):
        store.dataset(layer="q")


def test_the_index_as_a_table(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]]
) -> None:
    write()
    frame = open_store(tmp_path).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["id"].tolist() == sorted(IDS)
    assert frame.loc[0].dropna().to_dict() == {
        "id": "a",
        "layer": "hidden_12",
        "shard": "shards/00000-000001.safetensors",
        "offset": frame["offset"][0],
        "frames": 4,
        "dim": 6,
        "dtype": "float32",
        "source": "corpus/1.flac",
        "start": 0.5,
        "seconds": 1.25,
        "model_sha256": "ab" * 32,
    }


def test_without_pandas_says_what_to_install(
    tmp_path: Path,
    write: Callable[..., dict[str, dict[str, Tensor]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write()
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="run pip install pandas"):
        open_store(tmp_path).to_pandas()


def test_a_cut_shard_and_one_that_is_gone_are_errors(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]]
) -> None:
    write()
    path = tmp_path / "shards" / "00000-000000.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    store = open_store(tmp_path)
    assert store.get("c/3").shape == (3, 6)  # the first of its shard
    with pytest.raises(StoreError, match="000000.safetensors is cut: 1 bytes"):
        store["a/1"]
    assert [damage.file for damage in store.verify()] == ["shards/00000-000000.safetensors"]
    path.unlink()
    with pytest.raises(StoreError, match="is not there"):
        open_store(tmp_path)["a/1"]


def test_what_is_no_store_or_has_lost_rows_is_an_error(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]]
) -> None:
    with pytest.raises(StoreError, match="is not a store: it does not exist, or is empty"):
        open_store(tmp_path)
    write(dims={"x": 2, "y": 3})
    meta = tmp_path / "meta.json"
    meta.write_text(meta.read_text().replace('"name": "y"', '"name": "w"'))
    with pytest.raises(StoreError, match="does not have the layers of meta.json"):
        open_store(tmp_path)


def test_opening_reads_no_shard(
    tmp_path: Path,
    write: Callable[..., dict[str, dict[str, Tensor]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write()
    opened: list[str] = []
    original = Path.open

    def spy(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self.name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", spy)
    len(open_store(tmp_path))
    assert set(opened) == {"meta.json", "index.parquet"}
    assert builtins.open is not open_store


def test_a_store_says_what_it_is_and_what_it_is_asked_for(
    tmp_path: Path, write: Callable[..., dict[str, dict[str, Tensor]]]
) -> None:
    write()
    store = open_store(tmp_path)
    assert repr(store).startswith(f"<Store {store.location}: {len(store)} utterances of ")
    with pytest.raises(UnknownUtteranceError, match=r"text, but got 0; `store.at\(index\)`"):
        store[0]  # type: ignore[index]


NAMES = ["a", "a/b", "ab", "é", "наука", "日本", "\U0001f600"]


def test_finds_what_is_there_and_nothing_else() -> None:
    ids = SortedIds(pa.chunked_array([NAMES[:3], NAMES[3:]]))
    assert list(ids) == NAMES
    assert [ids.find(name) for name in NAMES] == list(range(len(NAMES)))
    for name in ("", "b", "a/", "zz", "\U0001f601", "\ud800"):
        assert ids.find(name) is None


def test_slices_and_pickles() -> None:
    whole = pa.chunked_array([NAMES])
    ids = pickle.loads(pickle.dumps(SortedIds(whole.slice(2, 3))))
    assert list(ids) == NAMES[2:5]
    with pytest.raises(IndexError, match="from 0 to 2, but is 3"):
        ids[3]


@pytest.mark.parametrize("chunks", [[], [[]]])
def test_no_ids(chunks: list[list[str]]) -> None:
    ids = SortedIds(pa.chunked_array(chunks, pa.string()))
    assert len(ids) == 0
    assert ids.find("a") is None
    assert ids.near("a") == []


def test_near_ids_are_like_the_one_asked_for() -> None:
    names = sorted(f"speaker-{index:05d}" for index in range(5000))
    near = SortedIds(pa.chunked_array([names])).near("speaker-02500.flac")
    assert "speaker-02500" in near
    assert len(near) == 3
