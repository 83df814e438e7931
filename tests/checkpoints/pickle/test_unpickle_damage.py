"""Files that are cut short or altered: refused, or read as plain values, and nothing else."""

from __future__ import annotations

import argparse
import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auricle.checkpoints.pickle.unpickle import read_legacy_checkpoint
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError

MAGIC = 0x1950A86A20F9469CFC6C

Save = Callable[[Any, Path], None]


def save_zip(value: Any, path: Path) -> None:
    torch.save(value, path)


def save_stream(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


both_formats = pytest.mark.parametrize("save", [save_zip, save_stream])


def small_checkpoint() -> dict[str, Any]:
    return {
        "w": torch.arange(3.0),
        "b": torch.tensor([1], dtype=torch.int64),
        "args": argparse.Namespace(a=1, b="two"),
    }


def assert_intact(content: Any) -> None:
    expected = small_checkpoint()
    assert list(content) == list(expected)
    assert torch.equal(content["w"], expected["w"])
    assert torch.equal(content["b"], expected["b"])
    assert content["args"].state == vars(expected["args"])


@both_formats
def test_truncation_at_every_byte_is_refused(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save(small_checkpoint(), path)
    content = path.read_bytes()
    assert_intact(read_legacy_checkpoint(path))
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_legacy_checkpoint(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("saved")
    save_zip(small_checkpoint(), folder / "zip")
    save_stream(small_checkpoint(), folder / "stream")
    return {name: (folder / name).read_bytes() for name in ("zip", "stream")}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "c.pt"


flips = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3
)


def flip(content: bytes, changes: list[tuple[float, int]]) -> bytes:
    flipped = bytearray(content)
    for position, mask in changes:
        flipped[int(position * len(content))] ^= mask
    return bytes(flipped)


@given(changes=flips)
def test_flipped_bytes_of_a_zip(
    changes: list[tuple[float, int]], saved: dict[str, bytes], scratch: Path
) -> None:
    scratch.write_bytes(flip(saved["zip"], changes))
    with contextlib.suppress(CheckpointError):
        assert_intact(read_legacy_checkpoint(scratch))  # its checksums leave no other outcome


@given(changes=flips)
def test_flipped_bytes_of_a_stream(
    changes: list[tuple[float, int]], saved: dict[str, bytes], scratch: Path
) -> None:
    scratch.write_bytes(flip(saved["stream"], changes))
    with contextlib.suppress(CheckpointError):
        assert_plain(read_legacy_checkpoint(scratch))


@given(content=st.binary(max_size=60))
def test_random_object_pickles(content: bytes, scratch: Path) -> None:
    headers = [pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True})]
    scratch.write_bytes(b"".join(headers) + content + pickle.dumps([], 2))
    with contextlib.suppress(CheckpointError):
        assert_plain(read_legacy_checkpoint(scratch))


def assert_plain(value: Any) -> None:
    """A flipped reference may put a container inside itself, so none is visited twice."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            waiting += item
        elif isinstance(item, InertRecord):
            waiting += [item.args, item.state]
        elif isinstance(item, torch.Tensor):
            item.clone()  # reads it
        else:
            assert item is None or type(item) in (str, bytes, int, float, bool)
