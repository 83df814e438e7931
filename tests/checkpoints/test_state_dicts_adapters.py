from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import auricle
from auricle.checkpoints.state_dicts import is_adapter_file, is_adapter_key
from auricle.errors import CheckpointError
from golden_cases import GoldenCase

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
    with pytest.raises(CheckpointError, match="adapter of one language, .*without_adapters=True"):
        auricle.load(path)
    auricle.load(model)  # the model's own configuration asks for none
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "adapter_attn_dim": 16}))
    with pytest.raises(CheckpointError, match="adapter_attn_dim.* pass without_adapters=True"):
        auricle.load(model)


def test_adapters_inside_that_no_option_says_are_refused_by_name(model: Path) -> None:
    path, name = model / "model.safetensors", "encoder.layers.0.adapter_layer.norm.weight"
    save_file({**load_file(path), name: torch.ones(48)}, path)
    with pytest.raises(CheckpointError, match=f"adapters inside .*{name}.*without_adapters=True"):
        auricle.load(model)
    assert name in auricle.load(model, without_adapters=True).unused_keys


def test_a_model_with_adapters_inside_loads_without_them(model: Path) -> None:
    plain = auricle.load(model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps({**config, "adapter_attn_dim": 16, "add_adapter": True})
    )
    adapters = {
        "encoder.layers.0.adapter_layer.linear_1.weight": torch.ones(16, 48),
        "encoder.layers.1.adapter_layer.norm.weight": torch.ones(48),
        "adapter.layers.0.conv.weight": torch.ones(2, 2, 3),
    }
    weights = load_file(model / "model.safetensors")
    save_file({**weights, **adapters}, model / "model.safetensors")
    for arguments in ({}, {"family": "wav2vec2", "config": model / "config.json"}):
        place = model / "model.safetensors" if arguments else model
        with pytest.raises(CheckpointError, match="without_adapters=True"):
            auricle.load(place, **arguments)
        encoder = auricle.load(place, without_adapters=True, **arguments)
        assert set(adapters) <= set(encoder.unused_keys)
        assert set(encoder.unused_keys) - set(adapters) == set(plain.unused_keys)
        assert encoder.config == plain.config
        assert all(
            torch.equal(weight, plain.state_dict()[name])
            for name, weight in encoder.state_dict().items()
        )


def test_the_model_beside_an_adapter_loads_without_it(model: Path) -> None:
    write_adapter(model)
    with pytest.raises(CheckpointError, match="or pass without_adapters=True"):
        auricle.load(model)
    encoder = auricle.load(model, without_adapters=True)
    assert encoder.config == auricle.load(BASE).config
    with pytest.raises(CheckpointError, match="holds no encoder"):
        auricle.load(model / "adapter_model.safetensors", without_adapters=True)


def test_names_and_keys_of_adapters() -> None:
    assert is_adapter_file(Path("adapter_model.bin"))
    assert is_adapter_file(Path("adapter.cmn-script_simplified.safetensors"))
    assert not is_adapter_file(Path("adapter.py"))
    for part in ("lora_A", "lora_magnitude_vector", "ia3_l", "base_layer", "modules_to_save"):
        assert is_adapter_key(f"encoder.{part}.weight")
    assert not is_adapter_key("encoder.layers.0.explora_A.weight")
