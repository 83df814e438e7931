"""What unfolds into mappings, and what is no checkpoint."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

from auricle.checkpoints.pickle.unpickle import as_mapping, read_legacy_checkpoint
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError

DATA = Path(__file__).parent / "data"
MAGIC = 0x1950A86A20F9469CFC6C


def test_omegaconf_config_unfolds() -> None:
    content: Any = read_legacy_checkpoint(DATA / "omegaconf_config.pt")
    assert content["model"]["w"].tolist() == [0.0, 1.0, 2.0]
    assert content["cfg"].type_name == "omegaconf.dictconfig.DictConfig"
    assert as_mapping(content["cfg"]) == {
        "task": {"normalize": True, "sample_rate": 16000, "name": "${model.name}"},
        "model": {
            "name": "w",
            "layers": [2, {"dim": 8}],
            "pair": (1, 2.5),
            "none": None,
            "missing": "???",
            "empty": {},
        },
    }


def test_mappings_unfold_what_they_hold() -> None:
    old_leaf = InertRecord("omegaconf.nodes.UntypedNode", (), {"val": 1})
    value = {
        "namespace": InertRecord(
            "argparse.Namespace", (), {"a": [InertRecord("argparse.Namespace")]}
        ),
        "choice": InertRecord("fairseq.dataclass.constants.DDP_BACKEND_CHOICES", ("c10d",)),
        "path": InertRecord("pathlib.PosixPath", ("/", "a", "b")),
        "other": (kept := InertRecord("torch.optim.adam.Adam")),
        "old": InertRecord("omegaconf.listconfig.ListConfig", (), {"content": [old_leaf]}),
    }
    assert as_mapping(value) == {
        "namespace": {"a": [{}]},
        "choice": "c10d",
        "path": "/a/b",
        "other": kept,
        "old": [1],
    }


def doubled() -> Any:
    value: Any = {}
    for _ in range(60):
        value = {"a": value, "b": value}
    return value


def endless() -> Any:
    value: Any = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1], "got a list"),
        (None, "got a NoneType"),
        ({1: 2}, "got a dict"),
        (InertRecord("torch.optim.adam.Adam"), "got a torch.optim"),
        (InertRecord("omegaconf.base.Metadata", (), {}), "without content"),
        (
            InertRecord("omegaconf.dictconfig.DictConfig", (), {"_content": "???"}),
            "expected a conf",
        ),
        (InertRecord("argparse.Namespace", (), [1]), "expected a configuration"),
        (doubled(), "more than"),
        (endless(), "more than"),
    ],
)
def test_other_values_are_no_mapping(value: Any, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        as_mapping(value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\n<html>", "a web page"),
        (b'{"error": "not found"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00{}", "safetensors"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PK\x05\x06" + bytes(18), "an empty zip archive"),
        (b"plain text", "starts with b'plain text'"),
        (pickle.dumps({"model": 1}, 2), "not one of torch.save"),
        (pickle.dumps(MAGIC, 2) + pickle.dumps(1000, 2), "protocol"),
        (pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2), "byte order"),
        (b"PK\x03\x04garbage", "damaged or truncated zip"),
    ],
)
def test_other_files_are_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_legacy_checkpoint(path)
    assert str(path) in str(caught.value)
    # A sandbox is a way for checkpoints alone.
    is_checkpoint = "not a file of torch.save" not in str(caught.value)
    assert ("open it in a sandbox" in str(caught.value)) is is_checkpoint


def test_tar_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    with pytest.raises(CheckpointError, match="tar archive"):
        read_legacy_checkpoint(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pt"):
        with pytest.raises(CheckpointError, match="no such file"):
            read_legacy_checkpoint(path)
