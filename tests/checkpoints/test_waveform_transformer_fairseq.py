"""Options and keys of fairseq."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.catalogue.family import FAMILIES, FamilyFormat
from auricle.checkpoints.huggingface import (
    CONFIG,
    PREPROCESSOR,
    WEIGHTS,
    families,
)
from auricle.checkpoints.state_dicts import WITHOUT_ADAPTERS
from auricle.checkpoints.waveform_transformer import (
    convert_fairseq,
    convert_huggingface,
    fairseq_keys,
)
from auricle.errors import CheckpointError
from auricle.models.waveform_transformer import (
    Wav2Vec2Config,
    WaveformTransformerConfig,
)
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig


def fairseq_config(task: dict[str, Any] | None = None, **model: Any) -> WaveformTransformerConfig:
    payload = {
        "task_cfg": {"_name": "audio_pretraining", **(task or {})},
        "model_cfg": {"_name": "wav2vec2", **model},
        "model_weight": {},
    }
    result = convert_fairseq(payload, FAMILIES["wav2vec2"]).config
    assert isinstance(result, WaveformTransformerConfig)
    return result


def test_what_is_not_written_is_as_fairseq_has_it() -> None:
    assert fairseq_config() == Wav2Vec2Config(transformer=TransformerConfig(layer_drop=0.0))


def test_every_option_of_fairseq_is_read() -> None:
    expected = Wav2Vec2Config(
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
    assert fairseq_config({"normalize": True}, **options) == expected


def test_a_projection_that_keeps_the_width() -> None:
    """data2vec of fairseq has one whatever the widths are, the other models have none."""
    options = {
        "encoder_embed_dim": 16,
        "encoder_attention_heads": 4,
        "conv_feature_layers": "[(16, 10, 5)]",
    }
    payload = {"task_cfg": {"_name": "audio_pretraining"}, "model_cfg": options}
    for weights, expected in (({}, False), ({"post_extract_proj.bias": torch.ones(16)}, True)):
        found = convert_fairseq({**payload, "model_weight": weights}, FAMILIES["data2vec"]).config
        assert isinstance(found, WaveformTransformerConfig)
        assert found.projection is expected


def test_layers_with_adapters_are_read_without_them_on_request() -> None:
    payload = {
        "task_cfg": {"_name": "audio_pretraining"},
        "model_cfg": {"_name": "wav2vec2", "layer_type": "trf_adp", "encoder_layers": 3},
        "model_weight": {},
        WITHOUT_ADAPTERS: True,
    }
    assert convert_fairseq(payload, FAMILIES["wav2vec2"]).config == fairseq_config(encoder_layers=3)


def test_a_model_for_recognition_has_the_encoder_s_options_in_a_section() -> None:
    part = {"model_type": "omniasr_audio", "num_hidden_layers": 2, "hidden_act": "relu"}
    outer = {"model_type": "omniasr_ctc", "audio_config": part, "num_hidden_layers": 9}
    payload = {CONFIG: outer, PREPROCESSOR: {"do_normalize": True}, WEIGHTS: {}}
    assert families(payload) == ("omniasr",)
    found = convert_huggingface(payload, FAMILIES["omniasr"]).config
    assert isinstance(found, WaveformTransformerConfig)
    assert (found.transformer.num_layers, found.transformer.activation) == (2, "relu")
    assert found.extractor.activation == "relu"
    assert (found.normalize, found.normalize_eps) == (True, 1e-5)
    other = {"model_type": "omniasr_ctc", "audio_config": {"model_type": "mel"}}
    with pytest.raises(CheckpointError, match="model_type must be one of .*, but is 'omniasr_ctc'"):
        families({**payload, CONFIG: other})


def test_positions() -> None:
    assert fairseq_config(conv_pos_batch_norm=True).transformer.positions.kind == "batch_norm"
    for size, kernel_size in ((95, 19), (10, 3)):
        assert fairseq_config(
            conv_pos=size, pos_conv_depth=5
        ).transformer.positions == ConvPositionConfig(
            kind="stack", kernel_size=kernel_size, depth=5
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_type": "trf_adp"}, "has layer_type trf_adp: adapters .* without_adapters=True"),
        ({"layer_type": "conformer"}, "layer_type must be one of transformer, but is 'conformer'"),
        ({"quantize_input": True}, "quantize_input must be False, but is True"),
        ({"crop_seq_to_multiple": 2}, "crop_seq_to_multiple must be 1, but is 2"),
        ({"activation_fn": "relu_squared"}, "activation_fn must be one of gelu"),
        ({"extractor_mode": "instance_norm"}, "must be one of default, layer_norm"),
        ({"conv_feature_layers": "__import__('os')"}, "not an expression of lists"),
        ({"encoder_layers": 10**9}, "at most 1000 layers"),
    ],
)
def test_options_of_fairseq_that_are_not_known(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        fairseq_config(**options)


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
    found = fairseq_keys(own, FamilyFormat()).locate(weights, dict.fromkeys(names, torch.zeros(1)))
    assert found.originals == dict(zip(names, weights, strict=True))


def test_keys_of_norms_follow_the_extractor_s_mode() -> None:
    names = (
        "feature_extractor.conv_layers.0.2.weight",
        "feature_extractor.conv_layers.0.2.1.weight",
    )
    for norm, name in (("group", names[0]), ("layer", names[1])):
        own = WaveformTransformerConfig(extractor=ExtractorConfig(norm=norm))
        ours = "extractor.norms.0.weight"
        found = fairseq_keys(own, FamilyFormat()).locate(
            {name: torch.zeros(1)}, {ours: torch.zeros(1)}
        )
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
    converted = convert_fairseq({"args": args, "model": weights}, FAMILIES["wav2vec2"])
    assert isinstance(converted.config, WaveformTransformerConfig)
    assert converted.config.transformer.hidden_size == 32
    assert converted.config.normalize
    ours = "transformer.layers.0.ffn_in.weight"
    found = converted.keymap.locate(converted.weights, {ours: torch.zeros(1)})
    assert found.originals == {ours: f"{prefix}encoder.layers.0.fc1.weight"}
    assert found.dropped == tuple(weights)[1:]
    assert not found.unknown + found.unfamiliar
