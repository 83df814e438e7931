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
    is_huggingface_folder,
    payload,
    read_folder_weights,
    read_weights,
)
from auricle.errors import CheckpointError
from golden_cases import GoldenCase, deviation

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
    with pytest.raises(CheckpointError, match="model_type must be one of wav2vec2, .*hubert"):
        families(model_type="bert")
    with pytest.raises(CheckpointError, match=r"config\.json lacks model_type"):
        families()


WHISPER = GoldenCase("hf_whisper")


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.encoder.", "asr.model.encoder."])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_whisper_under_any_prefix_is_computed_in_float32(
    prefix: str, dtype: torch.dtype, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = load_file(WHISPER.folder / "hf" / "model.safetensors")
    named = {
        prefix + key.removeprefix("model.encoder."): weight.to(dtype)
        for key, weight in weights.items()
        if key.startswith("model.encoder.")
    }
    save_file(named, tmp_path / "model.safetensors")
    shutil.copy(WHISPER.folder / "hf" / "config.json", tmp_path)
    with caplog.at_level(logging.WARNING):
        encoder = auricle.load(tmp_path)
    assert not caplog.records  # its waveforms are not normalised, whatever a preprocessor says
    assert encoder.dtype == torch.float32
    wav = WHISPER.wavs[1]
    with torch.inference_mode():
        difference = deviation(encoder([wav])[0], WHISPER.references(1)[None])
    assert difference <= (WHISPER.limit if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"chunk_length": 20}, r"preprocessor\.chunk_length must be 30, but is 20"),
        ({"n_fft": 512}, "n_fft must be 400"),
        ({"hop_length": 80}, "hop_length must be 160"),
        ({"sampling_rate": 8000}, "sampling_rate must be 16000"),
        ({"dither": 0.1}, "dither must be 0.0, but is 0.1: noise"),
    ],
)
def test_other_preprocessors_of_whisper_are_refused(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(WHISPER.folder / "hf", tmp_path / "hf"))
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **options}))
    with pytest.raises(CheckpointError, match=reason):
        auricle.load(folder)


BASE = GoldenCase("hf_wav2vec2_base").folder / "hf"
LAYER = "encoder.layers.0.attention.v_proj"
LORA = {
    f"base_model.model.{LAYER}.lora_A.weight": torch.ones(2, 48),
    f"base_model.model.{LAYER}.lora_B.weight": torch.ones(48, 2),
}
