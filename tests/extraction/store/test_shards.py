from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from auricle.errors import OutputError
from auricle.extraction.store.folder import LocalFolder
from auricle.extraction.store.layout import ShardKey, StoreMeta
from auricle.extraction.store.shards import StoreFormat
from auricle.files.safetensors import ALIGNMENT_BYTES

KEY = ShardKey(0, 0)
FILE = "shards/00000-000000.safetensors"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64"])
def test_safetensors_reads_what_is_written(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    hostile_ids: tuple[str, ...],
    dtype: str,
) -> None:
    meta = make_meta(dtype=dtype)
    items = make_items(meta, hostile_ids)
    written = StoreFormat(meta).write(LocalFolder(tmp_path), KEY, items)
    assert [place.id for place in written.placements] == list(hostile_ids)
    assert list(written.files) == [FILE]
    with safe_open(tmp_path / FILE, framework="pt") as file:
        assert set(file.keys()) == set(hostile_ids)
        for utterance, arrays in items:
            assert torch.equal(file.get_tensor(utterance.id), arrays["hidden_12"])


def test_layers_of_different_widths_lie_together_under_id_and_layer(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta({"z": 5, "a": 3, "m": 8})
    items = make_items(meta, ["x/y", "x"])
    written = StoreFormat(meta).write(LocalFolder(tmp_path), KEY, items)
    assert [(place.id, place.layer) for place in written.placements] == [
        (name, layer) for name in ("x/y", "x") for layer in ("z", "a", "m")
    ]
    raw = (tmp_path / FILE).read_bytes()
    by_id = {utterance.id: arrays for utterance, arrays in items}
    with safe_open(tmp_path / FILE, framework="pt") as file:
        for place in written.placements:
            x = by_id[place.id][place.layer]
            assert torch.equal(file.get_tensor(f"{place.id}/{place.layer}"), x)
            assert raw[place.offset : place.offset + x.nbytes] == x.numpy().tobytes()
    assert written.placements[0].offset % ALIGNMENT_BYTES == 0
    offsets = [place.offset for place in written.placements]
    assert offsets == sorted(offsets)


def test_arrays_may_be_views_need_gradients_or_come_from_inference(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta({"a": 4})
    items = make_items(meta, ["view", "gradient", "inference", "empty"])
    items[0][1]["a"] = torch.arange(40.0).view(4, 10).T[::2]
    items[1][1]["a"] = torch.ones(2, 4, requires_grad=True)
    with torch.inference_mode():
        items[2][1]["a"] = torch.ones(2, 4) * 3
    items[3][1]["a"] = torch.ones(0, 4)
    StoreFormat(meta).write(LocalFolder(tmp_path), KEY, items)
    with safe_open(tmp_path / FILE, framework="pt") as file:
        for utterance, arrays in items:
            assert torch.equal(file.get_tensor(utterance.id), arrays["a"].detach())


def test_names_that_mean_something_or_come_twice_are_refused(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    form = StoreFormat(make_meta())
    with pytest.raises(OutputError, match="'__metadata__' has a meaning"):
        form.check_id("__metadata__")
    for names in (["__metadata__"], ["a", "a"]):
        with pytest.raises(OutputError, match="comes twice"):
            form.write(LocalFolder(tmp_path), KEY, make_items(form.meta, names))
    assert not list(tmp_path.iterdir())
