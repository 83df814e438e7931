from __future__ import annotations

import argparse
import collections
import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auricle.checkpoints.pickle.unpickle import as_mapping, read_legacy_checkpoint
from auricle.checkpoints.pickle.values import InertName, InertRecord
from auricle.errors import CheckpointError

DATA = Path(__file__).parent / "data"
MAGIC = 0x1950A86A20F9469CFC6C

Save = Callable[[Any, Path], None]


def save_zip(value: Any, path: Path) -> None:
    torch.save(value, path)


def save_stream(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


both_formats = pytest.mark.parametrize("save", [save_zip, save_stream])


def checkpoint() -> dict[str, Any]:
    weight = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    return {
        "model": collections.OrderedDict(
            weight=weight,
            transposed=weight.permute(2, 0, 1),
            part=weight[1, 1:, ::2],
            parameter=torch.nn.Parameter(torch.ones(2)),
            **{
                str(dtype): torch.tensor([0, 1, 3]).to(dtype)
                for dtype in (
                    torch.float64,
                    torch.float16,
                    torch.bfloat16,
                    torch.int64,
                    torch.int32,
                    torch.int16,
                    torch.int8,
                    torch.uint8,
                    torch.bool,
                )
            },
            empty=torch.empty(0, 3),
            scalar=torch.tensor(2.5),
        ),
        "linear": torch.nn.Linear(2, 2).state_dict(),
        "args": argparse.Namespace(layers="[(512, 10, 5)]", lr=1e-4, nested={"a": [1, (2,)]}),
        "size": weight.shape,
        "best": np.float64(0.5),
        "step": 3,
        "none": None,
    }


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, torch.Tensor)
        assert ours.dtype == theirs.dtype
        assert ours.stride() == theirs.stride()
        assert torch.equal(ours, theirs)
        assert not ours.requires_grad
    elif isinstance(theirs, argparse.Namespace):
        assert_same(as_mapping(ours), vars(theirs))
    elif isinstance(theirs, dict):
        assert type(ours) is dict
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            assert_same(our, their)
    else:
        assert ours == theirs


@both_formats
def test_content_is_that_of_torch_load(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save(checkpoint(), path)
    assert_same(read_legacy_checkpoint(path), torch.load(path, weights_only=False))


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("is_zip", [True, False])
def test_every_pickle_protocol(protocol: int, is_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    value = {"w": torch.arange(3), "namespace": argparse.Namespace(a=1), "text": "é"}
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    assert_same(read_legacy_checkpoint(path), value)


def test_tensor_of_a_dtype_without_a_storage_class(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"a": torch.tensor([1, 65_535]).to(torch.uint16)[1:]}, path)
    assert_same(read_legacy_checkpoint(path), torch.load(path))


@both_formats
def test_shared_storages_stay_shared(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    weight = torch.zeros(4)
    save({"a": weight, "b": weight[2:], "c": torch.zeros(4)}, path)
    content: Any = read_legacy_checkpoint(path)
    content["a"].fill_(1.0)
    assert content["b"].tolist() == [1.0, 1.0]
    assert content["c"].tolist() == [0.0] * 4


class CountingFile(io.FileIO):
    """Counts the bytes that are read of every file of the class."""

    num_read = 0

    def readinto(self, buffer: Any, /) -> int | None:
        count = super().readinto(buffer)
        type(self).num_read += count or 0
        return count

    def readall(self) -> bytes:
        content = super().readall()
        type(self).num_read += len(content)
        return content


@both_formats
def test_tensors_that_nothing_uses_are_not_read(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.pt"
    model = {"w": torch.randn(64, 1024), "head": torch.randn(1024, 1024)}
    moments = {"exp_avg": torch.randn(3, 1024, 1024), "exp_avg_sq": torch.randn(3, 1024, 1024)}
    save({"model": model, "last_optimizer_state": {"state": {0: moments}}}, path)
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r": io.BufferedReader(CountingFile(self), 4096)
    )
    CountingFile.num_read = 0
    content: Any = read_legacy_checkpoint(path)
    assert content["model"]["head"].shape == (1024, 1024)
    assert content["last_optimizer_state"]["state"][0]["exp_avg"].dtype == torch.float32
    before = CountingFile.num_read
    assert before < 100_000
    assert torch.equal(content["model"]["w"], model["w"])
    assert torch.equal(content["model"]["w"] + 1, model["w"] + 1)  # is read once
    num_read = CountingFile.num_read - before
    assert abs(num_read - model["w"].nbytes) < 10_000  # less what the buffer held


@both_formats
def test_a_damaged_tensor_is_an_error_when_it_is_used(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save({"w": torch.full((5000,), 7.0), "other": torch.ones(3)}, path)
    content: Any = read_legacy_checkpoint(path)
    data = bytearray(path.read_bytes())
    place = data.index(torch.full((2,), 7.0).numpy().tobytes())
    path.write_bytes(data[: place + 8] if save is save_stream else data.replace(b"\xe0@", b"\xe1@"))
    assert content["other"].shape == (3,)
    with pytest.raises(CheckpointError, match=f"{path}: .*(cut short|checksum)"):
        content["w"].sum()


def test_classes_of_modules_as_torch_before_1_6_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for their source
        save_stream({"criterion": torch.nn.CrossEntropyLoss(), "cls": torch.nn.GELU}, path)
    content: Any = read_legacy_checkpoint(path)
    assert content["criterion"].type_name == "torch.nn.modules.loss.CrossEntropyLoss"
    assert content["cls"].type_name == "torch.nn.modules.activation.GELU"


class Odd(torch.Tensor):
    pass


@both_formats
def test_tensors_of_other_kinds_are_plain_or_records(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.expert = True  # type: ignore[attr-defined]
    save(
        {
            "parameter": parameter,
            "subclass": torch.ones(2).as_subclass(Odd),
            "sparse": torch.eye(2).to_sparse(),
            "layout": torch.strided,
        },
        path,
    )
    content: Any = read_legacy_checkpoint(path)
    assert content["parameter"].tolist() == content["subclass"].tolist() == [1.0, 1.0]
    assert content["sparse"].type_name == "torch._utils._rebuild_sparse_tensor"
    assert isinstance(content["layout"], InertRecord)


@both_formats
def test_tensors_of_every_dtype_and_expanded_ones(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    tensors = [
        torch.arange(3).to(dtype)
        for dtype in (torch.complex64, torch.complex128, torch.float8_e5m2, torch.float8_e4m3fn)
    ]
    save([*tensors, torch.ones(1).expand(5)], path)
    content: Any = read_legacy_checkpoint(path)
    for ours, theirs in zip(content, tensors, strict=False):
        assert ours.dtype == theirs.dtype
        assert ours.to(torch.complex128).tolist() == [0, 1, 2]
    assert content[-1].tolist() == [1.0] * 5


def test_what_expanded_tensors_repeat_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save([torch.ones(1).expand(2**22) for _ in range(5)], path)
    with pytest.raises(CheckpointError, match="repeat more than 16777216 elements"):
        read_legacy_checkpoint(path)


@both_formats
def test_dtypes_and_devices_are_inert(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save({"dtype": torch.float16, "device": torch.device("cpu")}, path)
    content: Any = read_legacy_checkpoint(path)
    assert isinstance(content["dtype"], InertName)
    assert content["dtype"].type_name == "torch.float16"
    assert content["device"].args == ("cpu",)


def rewrite_zip(path: Path, changes: dict[str, bytes | None]) -> None:
    """Replace members of an archive, or leave them out where the new content is None."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {f"{path.stem}/{name}": content for name, content in changes.items()}  # type: ignore[misc]  # dropped below
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data/0": None}, "no member 'data/0'"),
        ({"data/0": bytes(8)}, "storage '0' has 8 bytes; expected 12"),
        ({"data/0": bytes(16)}, "storage '0' has 16 bytes; expected 12"),
        ({"byteorder": b"big"}, "byte order is b'big'"),
        ({"data.pkl": None}, "no member 'data.pkl'"),
    ],
)
def test_zip_with_wrong_members(
    changes: dict[str, bytes | None], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.pt"
    torch.save({"w": torch.arange(3.0)}, path)
    rewrite_zip(path, {"byteorder": b"little"})
    assert_same(read_legacy_checkpoint(path), {"w": torch.arange(3.0)})
    rewrite_zip(path, changes)
    with pytest.raises(CheckpointError, match=reason):
        read_legacy_checkpoint(path)


def test_large_pickles_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("auricle.checkpoints.pickle.unpickle.MAX_PICKLE_BYTES", 100)
    path = tmp_path / "c.pt"
    save_zip({"text": "x" * 200}, path)
    with pytest.raises(CheckpointError, match="expected at most 100"):
        read_legacy_checkpoint(path)


class Stored:
    """A storage that stands outside a pickle, as the pickler of `torch.save` names it."""

    def __init__(self, key: str, num_elements: int, view: Any = None, kind: Any = None) -> None:
        self.id = ("storage", kind or torch.FloatStorage, key, "cpu", num_elements, view)


class Tensor:
    """A tensor of any claimed shape on such a storage."""

    def __init__(self, stored: Stored, offset: int, size: Any, stride: Any) -> None:
        self.args = (stored, offset, size, stride, False, collections.OrderedDict())

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.args


class StoredPickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.id if isinstance(obj, Stored) else None


def stream_file(path: Path, value: Any, keys: Any, storages: bytes) -> Path:
    content = io.BytesIO()
    for header in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(header, content, 2)
    StoredPickler(content, 2).dump(value)
    pickle.dump(keys, content, 2)
    path.write_bytes(content.getvalue() + storages)
    return path


def counted(*values: float) -> bytes:
    return len(values).to_bytes(8, "little") + np.array(values, "<f4").tobytes()


def test_stream_with_storage_views(tmp_path: Path) -> None:
    value = [
        Tensor(Stored("7", 4), 0, (4,), (1,)),
        Tensor(Stored("7", 4, ("70", 1, 2)), 0, (2,), (1,)),
        Tensor(Stored("7", 4, ("71", 2, 2)), 1, (1,), (1,)),
        Stored("8", 1),
    ]
    path = stream_file(tmp_path / "c.pt", value, ["8", "7"], counted(9) + counted(1, 2, 3, 4))
    whole, part, last, _ = torch.load(path, weights_only=False)
    ours: Any = read_legacy_checkpoint(path)
    assert_same(ours[:3], [whole, part, last])
    assert ours[3].type_name == "torch.FloatStorage"
    ours[0][1] = 5.0
    assert ours[1][0] == 5.0


@pytest.mark.parametrize(
    ("tensor", "keys", "storages", "reason"),
    [
        (Tensor(Stored("7", 2), 0, (2,), (1,)), [], b"", "not that of its tensors"),
        (Tensor(Stored("7", 2), 0, (2,), (1,)), ["8"], counted(1, 2), "not that of its"),
        (Tensor(Stored("7", 2), 0, (2,), (1,)), ["7", "7"], counted(1, 2) * 2, "not that of"),
        (Tensor(Stored("7", 2), 0, (2,), (1,)), ["7", 8], counted(1, 2), "not a list of keys"),
        (Tensor(Stored("7", 2), 0, (2,), (1,)), "7", counted(1, 2), "not a list of keys"),
        (Tensor(Stored("7", 2), 0, (2,), (1,)), ["7"], counted(1, 2, 3), "has 3 elements"),
        (
            Tensor(Stored("7", 2), 0, (2,), (1,)),
            ["7"],
            counted(1, 2)[:-1],
            "1 bytes of storage '7'",
        ),
        (Tensor(Stored("7", 2), 0, (2,), (1,)), ["7"], b"\x02", "cut short before"),
        (Stored("7", 2), ["7"], counted(1, 2)[:-1], "1 bytes of storage '7'"),
        (Tensor(Stored("7", 2), 0, (3,), (1,)), ["7"], counted(1, 2), "has 2 elements"),
        (Tensor(Stored("7", 2), 0, (2**40,), (0,)), ["7"], counted(1, 2), "has 2 elements"),
        (Tensor(Stored("7", 2), 0, (-2,), (1,)), ["7"], counted(1, 2), "is -2"),
        (Tensor(Stored("7", 2**40), 0, (2,), (1,)), ["7"], counted(1, 2), "has 2 elements"),
        (Tensor(Stored("7", 2**62), 0, (2,), (1,)), ["7"], counted(1, 2), "number of elements"),
        (Tensor(Stored("7", 2, ("v", 1, 2)), 0, (2,), (1,)), ["7"], counted(1, 2), "a view of"),
        (
            [Stored("7", 2), Stored("7", 2, kind=torch.LongStorage)],
            ["7"],
            counted(1, 2),
            "in one place",
        ),
        ([Stored("7", 2), Stored("7", 3)], ["7"], counted(1, 2), "in one place"),
    ],
)
def test_streams_whose_storages_do_not_fit(
    tensor: Any, keys: Any, storages: bytes, reason: str, tmp_path: Path
) -> None:
    path = stream_file(tmp_path / "c.pt", tensor, keys, storages)
    with pytest.raises(CheckpointError, match=reason):
        read_legacy_checkpoint(path)


def test_tensors_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("auricle.checkpoints.pickle.names.MAX_TENSORS", 2)
    save_zip([torch.ones(1)] * 2, tmp_path / "two.pt")
    save_zip([torch.ones(1) for _ in range(3)], tmp_path / "three.pt")
    read_legacy_checkpoint(tmp_path / "two.pt")
    with pytest.raises(CheckpointError, match="more than 2 tensors"):
        read_legacy_checkpoint(tmp_path / "three.pt")
