from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import auricle
from auricle.errors import CheckpointError, OutputError
from auricle.files.safetensors import NativeCheckpoint, is_native, read_native, write_native
from auricle.info import Provenance

ORIGIN = Provenance(name="x", licence="CC BY 4.0", source_url="https://example.org/x.pt")


def checkpoint() -> NativeCheckpoint:
    weights = {"weight": torch.arange(6.0).view(2, 3).T, "steps": torch.tensor(3)}
    return NativeCheckpoint(family="apc", config="{}", provenance=ORIGIN, weights=weights)


def test_reads_back_what_it_writes(tmp_path: Path) -> None:
    write_native(tmp_path / "x.safetensors", checkpoint())
    read = read_native(tmp_path / "x.safetensors")
    assert (read.family, read.config, read.provenance) == ("apc", "{}", ORIGIN)
    assert set(read.weights) == {"weight", "steps"}
    for name, weight in checkpoint().weights.items():
        assert torch.equal(read.weights[name], weight)


def test_weights_that_can_be_are_aligned(tmp_path: Path) -> None:
    weights = {"a": torch.ones(3), "b": torch.ones(16), "c": torch.ones(64, 2), "d": torch.ones(1)}
    native = NativeCheckpoint(family="apc", config="{}", provenance=ORIGIN, weights=weights)
    write_native(tmp_path / "x.safetensors", native)
    read = read_native(tmp_path / "x.safetensors").weights
    assert [name for name in read if read[name].data_ptr() % 64 == 0] == ["a", "b", "c"]


def test_files_that_were_aligned_by_their_metadata_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(
        {"a": torch.zeros(1)},
        path,
        {"auricle_format": "1", "family": "apc", "config": "{}", "padding": "   ", "steps": "5"},
    )
    assert read_native(path).extra == {"steps": "5"}


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.safetensors"):
        write_native(tmp_path / "x.pt", checkpoint())
    assert not list(tmp_path.iterdir())


def test_weights_without_an_encoder_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="which encoder"):
        auricle.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.safetensors"
    write_native(path, checkpoint())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_native(path)


def test_unknown_family_and_broken_config_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    native = checkpoint()
    write_native(path, NativeCheckpoint(**{**vars(native), "family": "nothing"}))
    with pytest.raises(CheckpointError, match="nothing"):
        auricle.load(path)
    write_native(path, NativeCheckpoint(**{**vars(native), "config": '{"num_layers": "x"}'}))
    with pytest.raises(CheckpointError, match="num_layers"):
        auricle.load(path)


def test_further_metadata_is_kept_and_never_in_the_way(tmp_path: Path) -> None:
    extra = {"recipe": "[recipe]", "family": "another", "steps": "5"}
    native = NativeCheckpoint(**{**vars(checkpoint()), "extra": extra})
    write_native(tmp_path / "x.safetensors", native)
    read = read_native(tmp_path / "x.safetensors")
    assert (read.family, read.provenance) == ("apc", ORIGIN)
    assert read.extra == {"recipe": "[recipe]", "steps": "5"}


def test_the_library_s_own_file_is_known_by_its_content(tmp_path: Path) -> None:
    write_native(tmp_path / "x.safetensors", checkpoint())
    renamed = tmp_path / "download"
    renamed.write_bytes((tmp_path / "x.safetensors").read_bytes())
    assert is_native(renamed)
    (tmp_path / "config.json").write_text("{}")
    assert is_native(tmp_path / "x.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "y.safetensors")
    for content in (b"", b"PK\3\4", b"\x80\2" + b"x" * 100):
        renamed.write_bytes(content)
        assert not is_native(renamed)
    assert not is_native(tmp_path / "y.safetensors")
    assert not is_native(tmp_path)
