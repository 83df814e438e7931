from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.checkpoints.fairseq_transformer import convert, keys
from auricle.errors import CheckpointError
from auricle.models.wav2vec2_encoder import WaveformTransformerConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.waveform_extractor import ExtractorConfig
from auricle.nn.waveform_transformer import TransformerConfig


def config(task: dict[str, Any] | None = None, **model: Any) -> WaveformTransformerConfig:
    payload = {
        "task_cfg": {"_name": "audio_pretraining", **(task or {})},
        "model_cfg": {"_name": "wav2vec2", **model},
        "model_weight": {},
    }
    result = convert(payload, WaveformTransformerConfig).config
    assert isinstance(result, WaveformTransformerConfig)
    return result


def test_what_is_not_written_is_as_fairseq_has_it() -> None:
    assert config() == WaveformTransformerConfig(transformer=TransformerConfig(layer_drop=0.0))


def test_every_option_is_read() -> None:
    expected = WaveformTransformerConfig(
        normalize=True,
        normalize_eps=1e-5,
        extractor=ExtractorConfig(
            layers=((8, 10, 5), (16, 3, 2), (16, 3, 2)), norm="layer", bias=True
        ),
        projection=False,
        projection_dropout=0.3,
        transformer=TransformerConfig(
            hidden_size=16,
            num_layers=3,
            num_heads=4,
            ffn_size=20,
            activation="gelu_tanh",
            pre_layer_norm=True,
            positions=ConvPositionConfig(kernel_size=9, num_groups=2),
            dropout=0.4,
            attention_dropout=0.5,
            activation_dropout=0.6,
            layer_drop=0.7,
        ),
    )
    options = {
        "extractor_mode": "layer_norm",
        "conv_feature_layers": "[(8, 10, 5)] + [(16, 3, 2)] * 2",
        "conv_bias": True,
        "encoder_embed_dim": 16,
        "encoder_layers": 3,
        "encoder_attention_heads": 4,
        "encoder_ffn_embed_dim": 20,
        "activation_fn": "gelu_accurate",
        "layer_norm_first": True,
        "conv_pos": 9,
        "conv_pos_groups": 2,
        "dropout_input": 0.3,
        "dropout": 0.4,
        "attention_dropout": 0.5,
        "activation_dropout": 0.6,
        "encoder_layerdrop": 0.7,
    }
    assert config({"normalize": True}, **options) == expected


def test_positions() -> None:
    assert config(conv_pos_batch_norm=True).transformer.positions.kind == "batch_norm"
    for size, kernel_size in ((95, 19), (10, 3)):
        assert config(conv_pos=size, pos_conv_depth=5).transformer.positions == ConvPositionConfig(
            kind="stack", kernel_size=kernel_size, depth=5
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_type": "conformer"}, "layer_type must be one of transformer, but is 'conformer'"),
        ({"quantize_input": True}, "quantize_input must be False, but is True"),
        ({"crop_seq_to_multiple": 2}, "crop_seq_to_multiple must be 1, but is 2"),
        ({"activation_fn": "relu_squared"}, "activation_fn must be one of gelu"),
        ({"extractor_mode": "instance_norm"}, "must be one of default, layer_norm"),
        ({"conv_feature_layers": "__import__('os')"}, "not an expression of lists"),
        ({"encoder_layers": 10**9}, "num_layers must be 1 to 1000"),
    ],
)
def test_what_is_not_known_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        config(**options)


POSITIONS = {
    "weight_norm": {
        "encoder.pos_conv.0.weight_g": "convs.0.weight_g",
        "encoder.pos_conv.0.parametrizations.weight.original1": "convs.0.weight_v",
        "encoder.pos_conv.0.bias": "convs.0.bias",
    },
    "batch_norm": {
        "encoder.pos_conv.0.running_mean": "batch_norm.running_mean",
        "encoder.pos_conv.1.weight": "convs.0.weight",
    },
    "stack": {"encoder.pos_conv.3.0.weight": "convs.3.weight"},
}


@pytest.mark.parametrize("kind", POSITIONS)
def test_keys_of_positions(kind: Any) -> None:
    own = WaveformTransformerConfig(
        transformer=TransformerConfig(positions=ConvPositionConfig(kind=kind))
    )
    weights = {original: torch.zeros(1) for original in POSITIONS[kind]}
    names = [f"transformer.positions.{ours}" for ours in POSITIONS[kind].values()]
    found = keys(own).locate(weights, dict.fromkeys(names, torch.zeros(1)))
    assert found.originals == dict(zip(names, weights, strict=True))


def test_keys_of_norms_follow_the_extractor_s_mode() -> None:
    names = (
        "feature_extractor.conv_layers.0.2.weight",
        "feature_extractor.conv_layers.0.2.1.weight",
    )
    for norm, name in (("group", names[0]), ("layer", names[1])):
        own = WaveformTransformerConfig(extractor=ExtractorConfig(norm=norm))
        ours = "extractor.norms.0.weight"
        found = keys(own).locate({name: torch.zeros(1)}, {ours: torch.zeros(1)})
        assert found.originals == {ours: name}


def test_a_fine_tuned_model_loads_as_the_encoder_in_it() -> None:
    own = {"encoder_embed_dim": 32, "encoder_attention_heads": 4}
    prefix = "w2v_encoder.w2v_model."
    weights = {
        f"{prefix}encoder.layers.0.fc1.weight": torch.zeros(1),
        f"{prefix}mask_emb": torch.zeros(1),
        "w2v_encoder.proj.weight": torch.zeros(1),
        "w2v_encoder.strange": torch.zeros(1),
    }
    args = {"arch": "wav2vec_ctc", "normalize": False, "w2v_args": {"normalize": True, **own}}
    converted = convert({"args": args, "model": weights}, WaveformTransformerConfig)
    assert isinstance(converted.config, WaveformTransformerConfig)
    assert converted.config.transformer.hidden_size == 32
    assert converted.config.normalize
    ours = "transformer.layers.0.ffn_in.weight"
    found = converted.keymap.locate(converted.weights, {ours: torch.zeros(1)})
    assert found.originals == {ours: f"{prefix}encoder.layers.0.fc1.weight"}
    assert found.dropped == tuple(weights)[1:]
    assert not found.unknown + found.unfamiliar
