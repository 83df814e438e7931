"""Conformers as folders of transformers, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import auricle
from auricle.checkpoints.waveform_transformer import HUGGINGFACE_EPS
from auricle.errors import AuricleError
from auricle.models.spectral_conformer import W2vBertConfig
from auricle.models.waveform_transformer import Wav2Vec2ConformerConfig
from auricle.nn.relative_positions import DistanceConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from golden_cases import gives_the_same, uneven_encoder

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 4,
    "ffn_size": 20,
    "kernel_size": 5,
}
EXTRACTOR = ExtractorConfig(layers=((8, 10, 5), (8, 3, 2), (12, 2, 2)), norm="layer")
KINDS: dict[str, dict[str, Any]] = {
    "key_table": {"positions": DistanceConfig(left=3, right=2), "activation": "gelu_tanh"},
    "sinusoidal": {"positions": DistanceConfig(kind="sinusoidal"), "layer_drop": 0.3},
    "rotary": {"positions": DistanceConfig(kind="rotary", rotary_base=500), "dropout": 0.2},
    "none": {"positions": DistanceConfig(kind="none"), "conv_dropout": 0.0},
}


def w2v_bert(**options: Any) -> W2vBertConfig:
    config = W2vBertConfig()
    conformer = msgspec.structs.replace(config.conformer, **SMALL, **options)
    return msgspec.structs.replace(config, conformer=conformer)


def wav2vec2_conformer(**options: Any) -> Wav2Vec2ConformerConfig:
    config = Wav2Vec2ConformerConfig(normalize_eps=HUGGINGFACE_EPS, extractor=EXTRACTOR)
    conformer = msgspec.structs.replace(config.conformer, **SMALL, **options)
    return msgspec.structs.replace(config, conformer=conformer)


@pytest.mark.parametrize("kind", KINDS)
def test_w2v_bert_comes_back_the_same(kind: str, tmp_path: Path) -> None:
    eps = {"layer_norm_eps": 1e-4, "block_norm_eps": 1e-4}
    encoder = uneven_encoder(w2v_bert(**KINDS[kind], **eps))
    auricle.export_to_transformers(encoder, tmp_path)
    again = auricle.load(tmp_path)
    assert again.config == encoder.config
    assert again.unused_keys == ()
    assert gives_the_same(again, encoder)
    options = json.loads((tmp_path / "config.json").read_text())
    assert (options["position_embeddings_type"] is None) == (kind == "none")
    assert options["feature_projection_input_dim"] == 160
    assert gives_the_same(auricle.load(tmp_path / "model.safetensors"), encoder)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "key_table"])
def test_the_wav2vec2_conformer_comes_back_the_same(kind: str, tmp_path: Path) -> None:
    encoder = uneven_encoder(wav2vec2_conformer(**KINDS[kind]))
    auricle.export_to_transformers(encoder, tmp_path)
    again = auricle.load(tmp_path)
    assert again.config == encoder.config
    assert all(key.startswith("encoder.pos_conv_embed.") for key in again.unused_keys)
    assert gives_the_same(again, encoder)


REFUSED = {
    "conformer.block_norm_eps": w2v_bert(block_norm_eps=1e-3),
    "conformer.is_causal": w2v_bert(is_causal=False),
    "features": msgspec.structs.replace(
        w2v_bert(), features=msgspec.structs.replace(w2v_bert().features, sample_scale=1.0)
    ),
    "conformer.final_norm": wav2vec2_conformer(final_norm="first"),
    "conformer.positions.rotary_rounding": w2v_bert(
        positions=DistanceConfig(kind="rotary", rotary_rounding="float16")
    ),
    "conformer.positions.kind": wav2vec2_conformer(positions=DistanceConfig()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_transformers_lacks_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(AuricleError, match=f"cannot have {name} "):
        auricle.export_to_transformers(uneven_encoder(REFUSED[name]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
