"""Formats by name, and properties of every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auricle.errors import MissingExtraError, OutputError
from auricle.extraction.writers import FORMAT_NAMES, open_format
from auricle.files.safetensors import raw_bytes
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.reader import open as open_store
from auricle.store.shards import path_text, values
from auricle.store.writer import StoreWriter


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_formats_are_what_they_are_called(name: str, make_meta: Callable[..., StoreMeta]) -> None:
    form = open_format(make_meta(format=name))
    assert form.name == name
    assert form.suffix.startswith(".")


def test_an_unknown_format_lists_those_there_are(make_meta: Callable[..., StoreMeta]) -> None:
    with pytest.raises(OutputError, match="no format 'csv'; choose one of .*'kaldi'"):
        open_format(make_meta(format="csv"))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "bfloat16") for name in FORMAT_NAMES if name != "store"]
    + [("kaldi", "float16"), ("kaldi", "int16"), ("store", "float64"), ("text", "float32")],
)
def test_types_that_a_format_lacks_are_refused_before_any_work(
    name: str, dtype: str, make_meta: Callable[..., StoreMeta]
) -> None:
    with pytest.raises(OutputError, match=f"{name} has no {dtype}; choose one of (float32|int16)"):
        open_format(make_meta(format=name, dtype=dtype))


@pytest.mark.parametrize(("name", "package"), [("kaldi", "kaldiio"), ("hdf5", "h5py")])
def test_a_missing_package_is_named_before_any_work(
    name: str, package: str, make_meta: Callable[..., StoreMeta], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=f"needs {package}.*run pip install {package}"):
        open_format(make_meta(format=name))


@pytest.mark.parametrize("form", FORMAT_NAMES)
@pytest.mark.parametrize("dims", [{"only": 6}, {"z": 5, "a.b/c": 1, "m": 8}])
def test_the_reader_maps_any_format_and_no_id_leaves_the_folder(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    hostile_ids: tuple[str, ...],
    form: str,
    dims: dict[str, int],
) -> None:
    meta = make_meta(dims, format=form)
    writer = StoreWriter.begin(tmp_path / "store", open_format(meta))
    for name in hostile_ids:
        writer.format.check_id(name)
    items = make_items(meta, hostile_ids)
    writer.write(ShardKey(0, 0), items[:9])
    writer.write(ShardKey(0, 1), items[9:])
    writer.close()
    store = open_store(tmp_path / "store")
    assert store.ids == sorted(hostile_ids)
    for utterance, arrays in items:
        for layer, x in arrays.items():
            assert torch.equal(store.get(utterance.id, layer=layer), x)
    assert store.verify() == []
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        (form, dtype)
        for form in FORMAT_NAMES
        for dtype in ("float16", "int16", "int32", "int64")
        if form != "kaldi" and (form, dtype) != ("text", "float16")
    ],
)
def test_halves_and_codes(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    form: str,
    dtype: str,
) -> None:
    meta = make_meta({"codes": 3}, format=form, dtype=dtype)
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    items = make_items(meta, ["a", "b"])
    writer.write(ShardKey(0, 0), items)
    store = open_store(tmp_path)
    for utterance, arrays in items:
        assert torch.equal(store.get(utterance.id), arrays["codes"])


@pytest.mark.parametrize("form", FORMAT_NAMES)
def test_an_utterance_without_frames(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list], form: str
) -> None:
    meta = make_meta({"a": 4}, format=form)
    items = make_items(meta, ["before", "empty", "after"])
    items[1][1]["a"] = torch.ones(0, 4, dtype=getattr(torch, meta.dtype))
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    writer.write(ShardKey(0, 0), items)
    writer.close()
    store = open_store(tmp_path)
    assert store.get("empty").shape == (0, 4)
    assert torch.equal(store.get("after"), items[2][1]["a"])


@pytest.mark.parametrize("form", FORMAT_NAMES)
@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_ids_that_are_no_text_are_refused(
    make_meta: Callable[..., StoreMeta], form: str, name: str
) -> None:
    with pytest.raises(OutputError, match="an id must be text"):
        open_format(make_meta(format=form)).check_id(name)


def test_values_and_bytes_share_memory_where_they_can() -> None:
    x = torch.arange(6.0).view(2, 3)
    assert values(x).ctypes.data == x.data_ptr()
    assert raw_bytes(x).ctypes.data == x.data_ptr()
    assert raw_bytes(x.T).tobytes() == x.T.contiguous().numpy().tobytes()
    assert len(raw_bytes(torch.ones(0, 3))) == 0


def test_paths_become_text() -> None:
    assert path_text("é.wav") == "é.wav"
    assert path_text("\udce9.wav") == r"\udce9.wav"
