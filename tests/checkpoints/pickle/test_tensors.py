from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.checkpoints.pickle.tensors import (
    StorageRef,
    fill_from_file,
    parse_storage_id,
    rebuild_tensor,
    view_storage,
)
from auricle.checkpoints.pickle.values import InertName, InertRecord
from auricle.errors import CheckpointError

COUNTING = torch.arange(12, dtype=torch.float32)
FLOATS = InertName("torch.FloatStorage")
BYTES = InertName("torch.UntypedStorage")


class Source:
    def storage(self, ref: StorageRef) -> torch.UntypedStorage:
        return COUNTING.untyped_storage()


def storage(kind: InertName = FLOATS, num_elements: int = 12) -> StorageRef:
    return parse_storage_id(("storage", kind, "0", "cpu", num_elements))[0]


def rebuilt(*view: Any) -> torch.Tensor:
    return rebuild_tensor(Source(), *view).read()


def rebuild(offset: Any, size: Any, stride: Any) -> torch.Tensor:
    return rebuilt(storage(), offset, size, stride)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (12,), (1,)),
        (4, (2, 3), (3, 1)),
        (0, (3, 4), (1, 3)),
        (11, (), ()),
        (12, (0, 5), (5, 1)),
        (3, (1, 1), (99, 99)),
        (0, (2, 2), (11, 0)),
        (0, (13,), (0,)),
        (0, (5, 12), (0, 1)),
    ],
)
def test_views_inside_the_storage(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    tensor = rebuild(offset, size, stride)
    assert torch.equal(tensor, torch.as_strided(COUNTING, size, stride, offset))
    assert tensor.stride() == stride
    assert tensor.untyped_storage().data_ptr() == COUNTING.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (13,), (1,)),
        (1, (12,), (1,)),
        (0, (2,), (12,)),
        (13, (0,), (1,)),
        (0, (2**40,), (0,)),
        (0, (2**24 + 2,), (0,)),
        (0, (2, 12, 2), (0, 1, 1)),
        (0, (2**40, 0, 2**40), (1, 1, 1)),
        (0, (2**32, 2**32), (0, 0)),
        (0, (2**64,), (1,)),
        (0, (-1,), (1,)),
        (0, (-2, -2), (1, 1)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), (1, 1)),
        (0, (True,), (1,)),
        (0, (2.0,), (1,)),
        (False, (2,), (1,)),
        (0, [2], (1,)),
        (0, (1,) * 17, (1,) * 17),
        (None, (2,), (1,)),
    ],
)
def test_views_outside_the_storage_are_refused(offset: Any, size: Any, stride: Any) -> None:
    with pytest.raises(CheckpointError):
        rebuild(offset, size, stride)
    assert COUNTING.untyped_storage().nbytes() == 48


def test_untyped_storage_counts_bytes() -> None:
    ref = storage(BYTES, 48)
    tensor = rebuilt(ref, 1, (2,), (1,), torch.uint32)
    assert torch.equal(tensor, COUNTING[1:3].view(torch.uint32))
    with pytest.raises(CheckpointError, match="reaches element 12"):
        rebuilt(ref, 11, (2,), (1,), torch.float32)
    with pytest.raises(CheckpointError, match="does not fit"):
        rebuilt(ref, 0, (2,), (1,))
    with pytest.raises(CheckpointError, match="does not fit"):
        rebuilt(storage(), 0, (2,), (1,), torch.float32)
    with pytest.raises(CheckpointError, match="not aligned"):
        rebuilt(view_storage(ref, ("v", 2, 8)), 0, (1,), (1,), torch.float32)


class Nothing:
    def storage(self, ref: StorageRef) -> torch.UntypedStorage:
        raise CheckpointError("read")


def test_what_a_tensor_is_like_is_known_without_its_bytes() -> None:
    tensor = rebuild_tensor(Nothing(), storage(), 4, (2, 3), (3, 1))
    assert isinstance(tensor, torch.Tensor)
    assert tensor.shape == tensor.size() == (2, 3)
    assert (tensor.dtype, tensor.ndim, tensor.dim(), tensor.numel()) == (torch.float32, 2, 2, 6)
    assert tensor.stride() == (3, 1)
    assert len(tensor) == 2
    assert tensor.is_floating_point()
    for use in (
        lambda: tensor + 1,
        lambda: torch.cat([tensor, tensor]),
        lambda: torch.nn.functional.linear(torch.ones(3), weight=tensor),
        lambda: tensor[0],
        lambda: tensor.device,
        lambda: torch.equal(torch.ones(2, 3), tensor),
        lambda: torch.nn.Linear(3, 2).load_state_dict({"weight": tensor}, strict=False),
        lambda: repr(tensor),
    ):
        with pytest.raises((CheckpointError, RuntimeError), match="read"):
            use()


def test_results_are_plain_tensors() -> None:
    tensor = rebuild_tensor(Source(), storage(), 0, (3,), (1,))
    for result in (tensor + 1, tensor.clone(), tensor.contiguous(), tensor[:2], tensor.double()):
        assert type(result) is torch.Tensor
    assert torch.stack([tensor, tensor], dim=0).tolist() == [[0.0, 1.0, 2.0]] * 2
    assert tensor.device.type == "cpu"


def test_storage_views_shift_and_bound_their_tensors() -> None:
    part = view_storage(storage(), ("v", 4, 3))
    assert rebuilt(part, 1, (2,), (1,)).tolist() == [5.0, 6.0]
    with pytest.raises(CheckpointError, match="reaches element 3"):
        rebuilt(part, 2, (2,), (1,))


@pytest.mark.parametrize("view", [("v", 4, 9), ("v", -1, 2), ("v", 0), "v", ("v", 0, True)])
def test_storage_views_outside_are_refused(view: object) -> None:
    with pytest.raises(CheckpointError):
        view_storage(storage(), view)


@pytest.mark.parametrize(
    "identifier",
    [
        "0",
        ["storage", FLOATS, "0", "cpu", 1],
        ("storage", FLOATS, "0", "cpu"),
        ("module", FLOATS, "0", "cpu", 1),
        (None, FLOATS, "0", "cpu", 1),
        ("storage", "FloatStorage", "0", "cpu", 1),
        ("storage", InertRecord("torch.FloatStorage"), "0", "cpu", 1),
        ("storage", InertName("torch.TypedStorage"), "0", "cpu", 1),
        ("storage", FLOATS, 0, "cpu", 1),
        ("storage", FLOATS, "0" * 300, "cpu", 1),
        ("storage", FLOATS, "0", "cpu", -1),
        ("storage", FLOATS, "0", "cpu", 2**60),
        ("storage", FLOATS, "0", "cpu", True),
    ],
)
def test_other_persistent_ids_are_refused(identifier: object) -> None:
    with pytest.raises(CheckpointError):
        parse_storage_id(identifier)


def test_a_tensor_needs_a_storage() -> None:
    with pytest.raises(CheckpointError, match="without a storage"):
        rebuilt(InertRecord("torch.FloatStorage"), 0, (1,), (1,))


def test_fill_from_file_refuses_a_short_file(tmp_path: Any) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"abc")
    target = torch.zeros(5, dtype=torch.uint8)
    with path.open("rb") as file, pytest.raises(CheckpointError, match="2 bytes of a storage"):
        fill_from_file(file, target)
    with path.open("rb") as file:
        assert bytes(fill_from_file(file, target[:3])) == b"abc"
