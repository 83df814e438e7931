from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file

import auricle
from auricle.checkpoints.reading import read_bare, read_original
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
        read_original(APC, "config.json")
    assert read_original(APC, {"dropout": 0.5})[1]["config"] == payload["config"]  # changed later


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


WEIGHTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "apc": ("model", lambda content: content["config"]),
    "vq_apc": ("model", lambda content: content["config"]),
    "npc": ("model", lambda content: content["config"]),
    "tera": ("Transformer", lambda content: content.get("Upstream_Config") or content["Config"]),
    "mockingjay": ("Transformer", lambda content: {"Config": content["Config"]}),
    "audio_albert": (
        "Transformer",
        lambda content: content.get("Upstream_Config") or content["Config"],
    ),
    "cpc": ("weights", lambda content: content["config"]),
}
"""Golden case -> where its weights and its options are."""


def tensors(weights: dict[str, torch.Tensor], path: Path) -> Path:
    save_file({key: weight.clone().contiguous() for key, weight in weights.items()}, path)
    return path


def same(ours: auricle.Encoder, theirs: auricle.Encoder) -> bool:
    left, right = ours.state_dict(), theirs.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("name", WEIGHTS)
def test_tensors_load_with_the_options_of_their_checkpoint(name: str, tmp_path: Path) -> None:
    case = GoldenCase(name)
    content: Any = torch.load(case.checkpoints[0], weights_only=False)
    key, options = WEIGHTS[name]
    path = tensors(content[key], tmp_path / "x.safetensors")
    expected = case.load()
    encoder = auricle.load(path, family=expected.family, config=options(content))
    assert same(encoder, expected)
    assert encoder.config == expected.config
    assert set(encoder.unused_keys) == set(expected.unused_keys)
    torch.save(content[key], tmp_path / "x.pt")
    config = tmp_path / "options.json"
    config.write_text(json.dumps(options(content)))
    again = auricle.load(expected.family, checkpoint=tmp_path / "x.pt", config=config)
    assert same(again, expected)


@pytest.mark.parametrize(
    "name", ["wav2vec", "vq_wav2vec_gumbel", "vq_wav2vec_kmeans", "wav2vec2_base"]
)
def test_tensors_of_fairseq_load_with_their_options(name: str, tmp_path: Path) -> None:
    case = GoldenCase(name)
    content: Any = torch.load(case.checkpoints[0], weights_only=False)
    weights = content.get("model") or content["model_weight"]
    if "model_weight" in content:
        options = {key: content[key] for key in ("task_cfg", "model_cfg")}
    else:
        options = content.get("cfg") or content["args"]
    path = tensors(weights, tmp_path / "x.safetensors")
    expected = case.load()
    encoder = auricle.load(path, family=expected.family, config=options)
    assert same(encoder, expected)
    assert encoder.config == expected.config


@pytest.mark.parametrize("normalize", [True, False])
def test_tensors_of_hugging_face_load_with_their_config(normalize: bool, tmp_path: Path) -> None:
    case = GoldenCase("hf_wav2vec2_base")
    (tmp_path / "folder").mkdir()
    (tmp_path / "weights").mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / "folder" / name).write_bytes((case.folder / "hf" / name).read_bytes())
    path = tmp_path / "weights" / "x.safetensors"
    path.write_bytes((case.folder / "hf" / "model.safetensors").read_bytes())
    expected = case.load()
    config = tmp_path / "folder" / "config.json"
    encoder = auricle.load(path, family="wav2vec2", config=config)
    assert same(encoder, expected)
    assert encoder.config == expected.config
    options = {**json.loads(config.read_text()), "do_normalize": normalize}
    assert auricle.load(path, family="wav2vec2", config=options).config.normalize is normalize


@pytest.mark.parametrize("name", ["apc", "tera", "wav2vec", "vq_wav2vec_gumbel", "wav2vec2_base"])
def test_names_and_configurations_may_be_our_own(name: str, tmp_path: Path) -> None:
    expected = GoldenCase(name).load()
    path = tensors(expected.state_dict(), tmp_path / "x.safetensors")
    options = json.loads(msgspec.json.encode(expected.config))
    encoder = auricle.load(path, family=expected.family, config=options)
    assert same(encoder, expected)
    assert encoder.config == expected.config


def test_a_published_name_says_which_size(tmp_path: Path) -> None:
    built = auricle.build("tera_base")
    ours = dict(built.state_dict())
    path = tensors(ours, tmp_path / "x.safetensors")
    encoder = auricle.load("tera_960hr", checkpoint=path)
    assert same(encoder, built)
    del ours["bert.project.bias"]
    with pytest.raises(CheckpointError, match=r"missing: input_representations|missing: bert"):
        auricle.load("tera", checkpoint=tensors(ours, tmp_path / "y.safetensors"))


def test_without_a_configuration_the_error_says_what_to_pass(tmp_path: Path) -> None:
    path = tensors({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    for options in ({}, {"family": "hubert"}):
        with pytest.raises(CheckpointError, match="need family= and config="):
            auricle.load(path, **options)


@pytest.mark.parametrize("config", [{"transformer": 1}, {"audio": []}, "missing.json"])
def test_configurations_that_do_not_hold_are_named(config: Any, tmp_path: Path) -> None:
    path = tensors({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError):
        auricle.load(path, family="tera", config=config)


def test_other_families_and_files_are_refused(tmp_path: Path) -> None:
    path = tensors({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(auricle.UnknownModelError, match="no family is called 'tears'"):
        auricle.load(path, family="tears", config={})
    with pytest.raises(auricle.AuricleError, match="tera is of the family tera, not of apc"):
        auricle.load("tera", checkpoint=path, family="apc")
    torch.save({"a": torch.ones(1), "b": 1}, tmp_path / "mixed.pt")
    assert read_bare(tmp_path / "mixed.pt") is None
    assert read_bare(tmp_path) is None


def test_tensors_among_the_state_of_a_trainer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = auricle.load("tera_mini")
    options = json.loads(msgspec.json.encode(expected.config))
    weights = {f"model.encoder.{key}": weight for key, weight in expected.state_dict().items()}
    content: dict[str, Any] = {
        "state_dict": {**weights, "model.head.weight": torch.ones(2, 2)},
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    }
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    encoder = auricle.load(path, family="tera", config=options)
    assert same(encoder, expected)
    assert encoder.unused_keys == ("model.head.weight",)
    with pytest.raises(CheckpointError, match="bare tensors.* family= and config="):
        auricle.load(path)
    average = {key: weight + 1 for key, weight in weights.items()}
    torch.save({**content, "ema": average}, path)
    with caplog.at_level(logging.WARNING):
        assert same(auricle.load(path, family="tera", config=options), expected)
    assert "moving averages of the weights too, under ema.model.encoder, which" in caplog.text
    torch.save({**content, "teacher": average}, path)
    with pytest.raises(CheckpointError, match="2 whole encoders with different weights"):
        auricle.load(path, family="tera", config=options)
    torch.save({"Settings": 1, "Transformer": weights}, path)
    with pytest.raises(CheckpointError, match="s3prl before December 2020"):
        auricle.load(path, family="tera", config=options)


def test_a_file_that_was_cut_or_holds_one_tensor(tmp_path: Path) -> None:
    path = tensors({"a": torch.ones(9)}, tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    for options in ({}, {"family": "tera", "config": {"transformer": {}}}):
        with pytest.raises(CheckpointError, match="copy or fetch it again"):
            auricle.load(path, **options)
    torch.save(torch.ones(3), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="holds a Tensor, expected a mapping"):
        auricle.load(tmp_path / "x.pt")
