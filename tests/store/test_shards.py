from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from auricle.errors import OutputError, StoreError
from auricle.files.safetensors import ALIGNMENT_BYTES
from auricle.store.folder import LocalFolder
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.shards import ShardMaps, StoreFormat

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


NUM_VALUES = 300_000  # more than a mebibyte of float32: mapped


@pytest.fixture(params=[NUM_VALUES, 100], ids=["mapped", "read"])
def numbers(request: pytest.FixtureRequest, tmp_path: Path) -> np.ndarray:
    found = np.arange(request.param, dtype=np.float32)
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(found.tobytes())
    return found


def test_gives_the_array_at_an_offset(tmp_path: Path, numbers: np.ndarray) -> None:
    maps = ShardMaps(LocalFolder(tmp_path))
    x = maps.array("a", 40, (3, 4), "float32")
    assert torch.equal(x, torch.arange(10, 22).float().view(3, 4))
    end = len(numbers) * 4 - 24
    assert maps.array("a", end, (2, 3), "float32")[-1, -1] == numbers[-1]


def test_arrays_of_every_type(tmp_path: Path, numbers: np.ndarray) -> None:
    maps = ShardMaps(LocalFolder(tmp_path))
    raw = torch.from_numpy(numbers[:8].copy())
    for name in ("float16", "bfloat16", "int64"):
        dtype = getattr(torch, name)
        x = maps.array("a", 0, (1, 32 // dtype.itemsize), name)
        assert x.dtype == dtype
        assert torch.equal(x.view(torch.uint8).flatten(), raw.view(torch.uint8))


def test_a_mapped_array_is_no_copy_and_does_not_drag_the_shard_along(tmp_path: Path) -> None:
    np.arange(NUM_VALUES, dtype=np.float32).tofile(tmp_path / "a")
    maps = ShardMaps(LocalFolder(tmp_path))
    one, two = (maps.array("a", 40, (3, 4), "float32") for _ in range(2))
    assert one.data_ptr() == two.data_ptr()
    # Worker processes send the storage of a tensor, all of it.
    assert one.untyped_storage().nbytes() == 48


def test_an_array_that_lies_askew_is_right(tmp_path: Path, numbers: np.ndarray) -> None:
    path = tmp_path / "askew"
    path.write_bytes(b"123" + numbers.tobytes())
    x = ShardMaps(LocalFolder(tmp_path)).array("askew", 3, (2, 5), "float32")
    assert torch.equal(x, torch.arange(10).float().view(2, 5))
    assert x.data_ptr() % 4 == 0


def test_maps_are_bounded_and_arrays_outlive_them(tmp_path: Path, numbers: np.ndarray) -> None:
    maps = ShardMaps(LocalFolder(tmp_path), max_maps=2)
    kept = [maps.array(name, 4, (1, 3), "float32") for name in "abc"]
    assert list(maps._maps) == ["b", "c"]
    maps.array("b", 0, (1, 1), "float32")
    maps.array("a", 0, (1, 1), "float32")
    assert list(maps._maps) == ["b", "a"]
    assert all(torch.equal(x, torch.tensor([[1.0, 2.0, 3.0]])) for x in kept)


def test_a_cut_shard_is_an_error_not_a_crash(tmp_path: Path, numbers: np.ndarray) -> None:
    maps = ShardMaps(LocalFolder(tmp_path))
    end = len(numbers) * 4
    with pytest.raises(StoreError, match="a is cut: 8 bytes of an array lie past its end"):
        maps.array("a", end - 4, (1, 3), "float32")
    with pytest.raises(StoreError, match="a is cut: 12 bytes"):
        maps.array("a", end + 400, (1, 3), "float32")
    with pytest.raises(StoreError, match="gone is not there; run the extraction again"):
        maps.array("gone", 0, (1, 3), "float32")
    with pytest.raises(StoreError, match="does not say where its arrays lie"):
        maps.array("a", -1, (1, 3), "float32")


def test_an_array_without_frames_needs_no_file(tmp_path: Path) -> None:
    x = ShardMaps(LocalFolder(tmp_path)).array("gone", -1, (0, 7), "float16")
    assert x.shape == (0, 7)
    assert x.dtype == torch.float16


def test_pickles_without_its_maps(tmp_path: Path, numbers: np.ndarray) -> None:
    maps = ShardMaps(LocalFolder(tmp_path))
    x = maps.array("a", 0, (2, 2), "float32")
    text = pickle.dumps(maps)
    assert len(text) < 1000
    assert torch.equal(pickle.loads(text).array("a", 0, (2, 2), "float32"), x)
