from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors import SafetensorError, safe_open

import auricle
from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.huggingface import model_types
from auricle.checkpoints.waveform_transformer import HUGGINGFACE_ACTIVATIONS, HUGGINGFACE_EPS
from auricle.errors import AuricleError, OutputError
from auricle.info import Provenance
from auricle.models.waveform_transformer import WaveformTransformerConfig
from auricle.nn.attention import RelativePositionConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.layers import WAVEFORM_ACTIVATIONS
from golden_cases import GoldenCase, gives_the_same, golden_cases, uneven_encoder

LAYERS = ((8, 10, 5), (8, 3, 2), (12, 2, 2))
PRESETS: dict[str, WaveformTransformerConfig] = {
    name: config
    for family in model_types().values()
    for name, config in FAMILIES[family].presets().items()
    if isinstance(config, WaveformTransformerConfig)  # others: test_export_conformers.py
}


def tiny(name: str, **transformer: Any) -> WaveformTransformerConfig:
    """A preset with all its kinds of parts, but small ones."""
    config = PRESETS[name]
    positions = msgspec.structs.replace(config.transformer.positions, kernel_size=6, num_groups=2)
    sizes = {"hidden_size": 16, "num_layers": 2, "num_heads": 4, "ffn_size": 20}
    options = {"positions": positions, **sizes, **transformer}
    return msgspec.structs.replace(
        config,
        normalize_eps=HUGGINGFACE_EPS,
        extractor=msgspec.structs.replace(config.extractor, layers=LAYERS),
        transformer=msgspec.structs.replace(config.transformer, **options),
    )


@pytest.mark.parametrize("name", PRESETS)
def test_every_size_comes_back_the_same(name: str, tmp_path: Path) -> None:
    encoder = uneven_encoder(tiny(name))
    auricle.export_to_transformers(encoder, tmp_path / "out")
    again = auricle.load(tmp_path / "out")
    assert again.config == encoder.config
    assert again.unused_keys == ()
    weights = again.state_dict()
    assert set(weights) == set(encoder.state_dict())
    assert all(torch.equal(weights[key], value) for key, value in encoder.state_dict().items())
    assert gives_the_same(again, encoder)


ODD = {
    "batch norm of positions": (
        "hubert_base",
        {"positions": ConvPositionConfig(kind="batch_norm", kernel_size=6, num_groups=2)},
        {},
    ),
    "no norm before the projection": ("hubert_large", {}, {"projection_norm": False}),
    "no projection": ("wav2vec2_base_960", {"hidden_size": 12}, {"projection": False}),
    "other activations and eps": (
        "wav2vec2_large_ll60k",
        {"activation": "gelu_tanh", "layer_norm_eps": 1e-3, "layer_drop": 0.3},
        {},
    ),
    "few buckets": (
        "wavlm_large",
        {"relative_positions": RelativePositionConfig(num_buckets=8, max_distance=20)},
        {},
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_every_option_comes_back(kind: str, tmp_path: Path) -> None:
    name, transformer, options = ODD[kind]
    config = msgspec.structs.replace(tiny(name, **transformer), **options)
    encoder = uneven_encoder(config)
    auricle.export_to_transformers(encoder, tmp_path)
    again = auricle.load(tmp_path)
    # The one part that transformers has and this encoder lacks is the identity.
    assert again.config == msgspec.structs.replace(config, projection=True)
    assert gives_the_same(again, encoder)


@pytest.mark.parametrize(
    "case",
    [c for c in golden_cases() if c.name.startswith("hf_") and c.family != "parakeet"],
    ids=lambda c: c.name,
)
def test_what_came_from_transformers_goes_back(case: Any, tmp_path: Path) -> None:
    encoder = case.load()
    auricle.export_to_transformers(encoder, tmp_path)
    assert gives_the_same(auricle.load(tmp_path), encoder)


def test_whisper_has_a_decoder_of_no_layers(tmp_path: Path) -> None:
    encoder = GoldenCase("whisper_official").load()
    auricle.export_to_transformers(encoder, tmp_path / "out")
    again = auricle.load(tmp_path / "out")
    assert again.config == encoder.config
    assert gives_the_same(again, encoder)
    assert all(key.startswith("decoder.") for key in again.unused_keys)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["WhisperModel"]
    assert (config["decoder_layers"], config["encoder_layers"]) == (0, 2)
    preprocessor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert (preprocessor["feature_size"], preprocessor["chunk_length"]) == (128, 30)
    shorter = auricle.build(msgspec.structs.replace(encoder.config, max_frames=100))
    with pytest.raises(AuricleError, match="max_source_positions must be 1500, but is 100"):
        auricle.export_to_transformers(shorter, tmp_path / "other")


def test_files_and_what_they_say(tmp_path: Path) -> None:
    encoder = uneven_encoder(tiny("data2vec_audio_base")).to(torch.bfloat16)
    encoder.provenance = Provenance(licence="MIT", source_url="https://example.org/x.pt")
    auricle.export_to_transformers(encoder, tmp_path / "a" / "b")
    folder = tmp_path / "a" / "b"
    names = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [path.name for path in folder.parent.iterdir()] == ["b"]
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "data2vec-audio"
    assert config["architectures"] == ["Data2VecAudioModel"]
    assert config["torch_dtype"] == "bfloat16"
    assert (config["conv_pos_kernel_size"], config["num_conv_pos_embeddings"]) == (6, 5)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "licence": "MIT",
            "source_url": "https://example.org/x.pt",
        }
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118 - not a dict


def test_every_activation_has_a_name() -> None:
    assert set(HUGGINGFACE_ACTIVATIONS.values()) == set(WAVEFORM_ACTIVATIONS)
    assert all(
        FAMILIES[stem].formats["huggingface"].architecture for stem in model_types().values()
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_another_eps_of_the_waveform_is_reported(
    normalize: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny("wav2vec2_large_ll60k")
    config = msgspec.structs.replace(config, normalize=normalize, normalize_eps=1e-5)
    with caplog.at_level(logging.WARNING):
        auricle.export_to_transformers(auricle.build(config), tmp_path)
    assert ("transformers adds 1e-07 to the variance" in caplog.text) == normalize


@pytest.mark.parametrize(
    ("name", "transformer", "options", "message"),
    [
        (
            "wav2vec2_base_960",
            {"positions": ConvPositionConfig(kind="stack", depth=2)},
            {},
            "stack",
        ),
        ("data2vec_audio_base", {"positions": ConvPositionConfig()}, {}, "weight_norm, only stack"),
        ("data2vec_audio_base", {"pre_layer_norm": True}, {}, "pre_layer_norm True, only False"),
        ("wavlm_base", {}, {"projection_norm": False}, "projection_norm False, only True"),
        (
            "hubert_base",
            {"relative_positions": RelativePositionConfig()},
            {},
            "relative_positions .*, only None",
        ),
    ],
)
def test_what_transformers_lacks_is_refused(
    name: str, transformer: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(tiny(name, **transformer), **options)
    encoder = auricle.build(config)
    with pytest.raises(AuricleError, match=message):
        auricle.export_to_transformers(encoder, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_another_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        AuricleError,
        match="fbank, .* cannot be exported.*expected one of wav2vec2, wav2vec2_conformer, hubert",
    ):
        auricle.export_to_transformers(auricle.load("fbank"), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OutputError, match="No space left"):
        auricle.export_to_transformers(uneven_encoder(tiny("hubert_base")), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_weight_norm_is_folded_where_transformers_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = auricle.load(GoldenCase("omniasr_w2v").checkpoints[0], device="cpu")
    assert encoder.config.transformer.positions.kind == "weight_norm"  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        auricle.export_to_transformers(encoder, tmp_path)
        again = auricle.load(tmp_path, device="cpu")
    assert not caplog.records  # both add the same to the variance of a waveform
    assert again.family == "omniasr"
    assert again.config.transformer.positions.kind == "plain"  # type: ignore[attr-defined]
    assert gives_the_same(again, encoder)
    preprocessor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert preprocessor["feature_extractor_type"] == "OmniASRFeatureExtractor"
