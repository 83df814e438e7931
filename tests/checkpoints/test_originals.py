from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from auricle.checkpoints.originals import read_original
from auricle.errors import CheckpointError
from golden_cases import GoldenCase

APC = GoldenCase("apc").checkpoints[0]


def pase(folder: Path) -> Path:
    path = folder / "FE_e199.ckpt"
    torch.save({"blocks.0.conv.low_hz_": torch.ones(1)}, path)
    return path


def test_a_file_that_holds_its_configuration_refuses_another() -> None:
    layout, payload = read_original(APC, None)
    assert layout.name == "npc-repo"
    assert "config" in payload
    with pytest.raises(CheckpointError, match="brings its own configuration"):
        read_original(APC, {})


def test_a_configuration_of_its_own_is_found_beside_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "PASE+.cfg").write_text('{"emb_dim": 7}')
    layout, payload = read_original(pase(tmp_path), None)
    assert layout.name == "pase"
    assert payload["config"] == {"emb_dim": 7}
    assert list(payload["weights"]) == ["blocks.0.conv.low_hz_"]


def test_a_configuration_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "beside.cfg").write_text('{"emb_dim": 7}')
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "x.json").write_text('{"emb_dim": 8}')
    path = pase(tmp_path)
    assert read_original(path, other / "x.json")[1]["config"] == {"emb_dim": 8}
    assert read_original(path, str(other / "x.json"))[1]["config"] == {"emb_dim": 8}
    assert read_original(path, {"emb_dim": 9})[1]["config"] == {"emb_dim": 9}


def test_no_configuration_or_several_are_errors_that_say_what_to_do(tmp_path: Path) -> None:
    path = pase(tmp_path)
    with pytest.raises(CheckpointError, match="none beside it; pass config="):
        read_original(path, None)
    for name in ("a.cfg", "b.cfg"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=r"several files .*: a\.cfg, b\.cfg; pass config="):
        read_original(path, None)
    # The one that is called like the checkpoint is meant.
    (tmp_path / "FE_e199.cfg").write_text('{"emb_dim": 3}')
    assert read_original(path, None)[1]["config"] == {"emb_dim": 3}


def test_a_configuration_that_is_no_json_object_is_an_error(tmp_path: Path) -> None:
    for text in ("[1]", "{", ""):
        (tmp_path / "x.cfg").write_text(text)
        with pytest.raises(CheckpointError, match="not a readable JSON configuration"):
            read_original(pase(tmp_path), None)


def test_hugging_face_weights_are_read_with_the_config_beside_them(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        layout, payload = read_original(path, None)
        assert layout.name == "huggingface"
        assert layout.families(payload) == ("hubert",)


def test_weights_alone_say_what_is_missing(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"need their config\.json beside them"):
        read_original(tmp_path / "pytorch_model.bin", None)
