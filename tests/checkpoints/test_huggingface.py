from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import auricle
from auricle.checkpoints import huggingface
from auricle.checkpoints.huggingface import (
    CONFIG,
    PREPROCESSOR,
    WEIGHTS,
    is_adapter_file,
    is_adapter_key,
    is_huggingface_folder,
    payload,
    read_folder_weights,
    read_weights,
)
from auricle.errors import CheckpointError
from golden_cases import GoldenCase

FIRST = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
SECOND = {"c": torch.zeros(1)}


def read_huggingface(path: Path) -> dict[str, Any]:
    """The payload of a folder, or of one file in it."""
    if path.is_dir():
        return payload(path, read_folder_weights(path))
    return payload(path.parent, read_weights(path))


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", {"model_type": "hubert"})
    write_json(tmp_path / "preprocessor_config.json", {"do_normalize": False})
    return tmp_path


def assert_equal(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, expected[name])


def test_a_folder_with_safetensors(folder: Path) -> None:
    save_file(FIRST, folder / "model.safetensors")
    torch.save(SECOND, folder / "pytorch_model.bin")
    assert is_huggingface_folder(folder)
    content = read_huggingface(folder)
    assert content[CONFIG] == {"model_type": "hubert"}
    assert content[PREPROCESSOR] == {"do_normalize": False}
    assert_equal(content[WEIGHTS], FIRST)
    assert huggingface.matches(content)
    assert not huggingface.matches({"model": {}})
    assert huggingface.families(content) == ("hubert",)


def test_a_folder_with_a_pickle(folder: Path) -> None:
    torch.save(FIRST, folder / "pytorch_model.bin")
    assert_equal(read_huggingface(folder)[WEIGHTS], FIRST)


def test_a_file_brings_its_folder(folder: Path) -> None:
    save_file(FIRST, folder / "model.safetensors")
    save_file(SECOND, folder / "other.safetensors")
    assert_equal(read_huggingface(folder / "other.safetensors")[WEIGHTS], SECOND)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_shards(folder: Path, name: str) -> None:
    stem, suffix = name.split(".")
    shards = [f"{stem}-0000{number}-of-00002.{suffix}" for number in (1, 2)]
    for shard, weights in zip(shards, (FIRST, SECOND), strict=True):
        (save_file if suffix == "safetensors" else torch.save)(weights, folder / shard)
    listing = {"a": shards[0], "b": shards[0], "c": shards[1]}
    write_json(folder / f"{name}.index.json", {"metadata": {}, "weight_map": listing})
    assert_equal(read_huggingface(folder)[WEIGHTS], {**FIRST, **SECOND})


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/model.safetensors",
        "sub/model.safetensors",
        "a\\b.safetensors",
        "..",
        "",
        "a.bin",
        7,
    ],
)
def test_a_shard_s_name_must_not_lead_out_of_the_folder(folder: Path, name: object) -> None:
    save_file(FIRST, folder.parent / "model.safetensors")
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": name}})
    with pytest.raises(CheckpointError, match="expected the name of a file beside it"):
        read_huggingface(folder)


def test_an_index_must_fit_its_shards(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    save_file(FIRST, folder / "one.safetensors")
    write_json(index, {"weight_map": {"a": "one.safetensors"}})
    with pytest.raises(CheckpointError, match="holds b, which .* places in no file"):
        read_huggingface(folder)
    listing = dict.fromkeys(("a", "b", "z"), "one.safetensors")
    write_json(index, {"weight_map": listing})
    with pytest.raises(CheckpointError, match="lack z"):
        read_huggingface(folder)
    write_json(index, {"weight_map": {"a": "two.safetensors"}})
    with pytest.raises(CheckpointError, match=r"two\.safetensors is not a readable"):
        read_huggingface(folder)
    write_json(index, {"shards": []})
    with pytest.raises(CheckpointError, match="lacks weight_map"):
        read_huggingface(folder)


def test_what_is_missing_or_damaged_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no weights: expected model\.safetensors or"):
        read_huggingface(folder)
    (folder / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00garbage!")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_huggingface(folder)
    for damaged in ("{", "[]", "[" * 100_000, "\udcff"):
        (folder / "config.json").write_text(damaged, errors="surrogateescape")
        with pytest.raises(CheckpointError, match=r"config\.json is not a readable JSON object"):
            read_huggingface(folder)
    (folder / "config.json").unlink()
    assert not is_huggingface_folder(folder)
    with pytest.raises(CheckpointError, match=r"has no config\.json; expected the folder of"):
        read_huggingface(folder)


def test_a_pickle_that_holds_no_weights_is_refused(folder: Path) -> None:
    torch.save({"a": 1}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="must hold tensors by name, but 'a' is int"):
        read_huggingface(folder)


def test_where_the_preprocessor_s_options_are(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(FIRST, folder / "model.safetensors")
    (folder / "preprocessor_config.json").unlink()
    options: dict[str, Any] = {"feature_extractor": {"do_normalize": False}}
    write_json(folder / "processor_config.json", options)
    with caplog.at_level(logging.WARNING):
        assert read_huggingface(folder)[PREPROCESSOR] == {"do_normalize": False}
        assert not caplog.records
        (folder / "processor_config.json").unlink()
        assert read_huggingface(folder)[PREPROCESSOR] == {}
    assert "waveforms will be normalised" in caplog.text


def test_families() -> None:
    def families(**config: str) -> tuple[str, ...]:
        return huggingface.families({CONFIG: config})

    assert [families(model_type=kind) for kind in ("wav2vec2", "wavlm", "data2vec-audio")] == [
        ("wav2vec2",),
        ("wavlm",),
        ("data2vec",),
    ]
    with pytest.raises(CheckpointError, match="model_type must be one of wav2vec2, hubert"):
        families(model_type="whisper")
    with pytest.raises(CheckpointError, match=r"config\.json lacks model_type"):
        families()


BASE = GoldenCase("hf_wav2vec2_base").folder / "hf"
LAYER = "encoder.layers.0.attention.v_proj"
LORA = {
    f"base_model.model.{LAYER}.lora_A.weight": torch.ones(2, 48),
    f"base_model.model.{LAYER}.lora_B.weight": torch.ones(48, 2),
}
MERGE = r"Merge it first, .*PeftModel\.from_pretrained\(.*merge_and_unload\(\)"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE, tmp_path / "model"))


def write_adapter(model: Path, **config: object) -> None:
    model.mkdir(exist_ok=True)
    save_file(LORA, model / "adapter_model.safetensors")
    (model / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))


def test_an_adapter_beside_the_weights_is_never_passed_over(model: Path) -> None:
    weights = model / "model.safetensors"
    auricle.load(model)
    write_adapter(model)
    for place in (model, weights):
        with pytest.raises(CheckpointError, match=rf"has an adapter \(LORA: .* weights.*{MERGE}"):
            auricle.load(place)
    # Either of its two files says that there is one.
    (model / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"of peft: adapter_model\.safetensors"):
        auricle.load(model)
    (model / "adapter_model.safetensors").unlink()
    torch.save(LORA, model / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"of peft: adapter_model\.bin"):
        auricle.load(model)
    (model / "adapter_model.bin").unlink()
    auricle.load(model)


@pytest.mark.parametrize("name", ["", "adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_alone_holds_no_encoder(tmp_path: Path, name: str) -> None:
    write_adapter(tmp_path / "lora", base_model_name_or_path="facebook/hubert-base-ls960")
    message = rf"holds no encoder; its base model is facebook/hubert-base-ls960, .*{MERGE}"
    with pytest.raises(CheckpointError, match=message):
        auricle.load(tmp_path / "lora" / name)


def test_an_adapter_beside_a_configuration_is_alone_too(model: Path) -> None:
    (model / "model.safetensors").unlink()
    write_adapter(model)
    with pytest.raises(CheckpointError, match="holds no encoder; nothing says"):
        auricle.load(model)


@pytest.mark.parametrize("name", ["tuned.safetensors", "tuned.pt", "tuned.bin"])
def test_an_adapter_under_any_name_is_known_by_its_keys(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)(LORA, path)
    with pytest.raises(CheckpointError, match="is an adapter .* and holds no encoder"):
        auricle.load(path)


@pytest.mark.parametrize("renames_base", [True, False])
def test_an_adapter_inside_the_weights_is_refused(model: Path, renames_base: bool) -> None:
    weights = load_file(model / "model.safetensors")
    if renames_base:
        for part in ("weight", "bias"):
            weights[f"{LAYER}.base_layer.{part}"] = weights.pop(f"{LAYER}.{part}")
    wrapped = {f"base_model.model.{key}": weight for key, weight in weights.items()}
    adapter = {key.replace(".weight", ".default.weight"): weight for key, weight in LORA.items()}
    save_file({**wrapped, **adapter}, model / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not merged \(base_model.*model.merge_and_unload"):
        auricle.load(model)


def test_an_adapter_of_another_module_is_none_of_the_encoder_s(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    held = {f"encoder.{key}": weight for key, weight in weights.items()}
    held["llm.layers.0.q_proj.lora_A.default.weight"] = torch.ones(2, 3)
    save_file(held, model / "model.safetensors")
    encoder = auricle.load(model)
    assert "llm.layers.0.q_proj.lora_A.default.weight" in encoder.unused_keys


def test_adapters_of_languages_are_refused(model: Path) -> None:
    path = model / "adapter.fra.safetensors"
    save_file({"lm_head.weight": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="adapter of one language, .* holds no encoder"):
        auricle.load(path)
    auricle.load(model)  # the model's own configuration asks for none
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "adapter_attn_dim": 16}))
    with pytest.raises(CheckpointError, match="adapter_attn_dim"):
        auricle.load(model)


def test_names_and_keys_of_adapters() -> None:
    assert is_adapter_file(Path("adapter_model.bin"))
    assert is_adapter_file(Path("adapter.cmn-script_simplified.safetensors"))
    assert not is_adapter_file(Path("adapter.py"))
    for part in ("lora_A", "lora_magnitude_vector", "ia3_l", "base_layer", "modules_to_save"):
        assert is_adapter_key(f"encoder.{part}.weight")
    assert not is_adapter_key("encoder.layers.0.explora_A.weight")
