from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from auricle.errors import StoreError
from auricle.extraction.store.folder import LocalFolder
from auricle.extraction.store.mapping import ShardMaps

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
