from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.fairseq import conv_encoder_fields, conv_encoder_keys, convert_conv_encoder
from auricle.checkpoints.keymap import Converted
from auricle.checkpoints.options import Options
from auricle.errors import CheckpointError
from auricle.models.wav2vec import VqWav2Vec, VqWav2VecConfig, Wav2Vec
from auricle.nn.conv_features import AggregatorConfig, ConvExtractorConfig
from auricle.nn.quantizer import GumbelQuantizerConfig, KmeansQuantizerConfig

OPTIONS = {
    "conv_feature_layers": "[(8, 10, 5)] + [(8, 4, 2)] * 2",
    "conv_aggregator_layers": [[8, 2, 1], [8, 3, 1]],
}
EXTRACTOR_LAYERS = ((8, 10, 5), (8, 4, 2), (8, 4, 2))
AGGREGATOR_LAYERS = ((8, 2, 1), (8, 3, 1))


def fields(task: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    return conv_encoder_fields(
        {}, Options(task or {}, "task_cfg"), Options({**OPTIONS, **model}, "model_cfg")
    )


def test_defaults_of_conv_encoders_are_those_of_the_original() -> None:
    assert fields() == {
        "normalize": False,
        "extractor": ConvExtractorConfig(
            layers=EXTRACTOR_LAYERS,
            activation="relu",
            affine_norm=True,
            residual_scale=None,
            log_compression=True,
        ),
        "frame_dropout": 0.0,
        "aggregator": AggregatorConfig(
            layers=AGGREGATOR_LAYERS,
            activation="relu",
            affine_norm=True,
            bias=True,
            zero_padding=False,
            residual_scale=0.5,
            dropout=0.0,
        ),
    }


def test_every_option_of_conv_encoders_is_read() -> None:
    assert fields(
        {"normalize": True, "sample_rate": 16_000},
        activation="gelu",
        non_affine_group_norm=True,
        residual_scale=0.25,
        skip_connections_feat=True,
        skip_connections_agg=False,
        log_compression=False,
        no_conv_bias=True,
        agg_zero_pad=True,
        dropout=0.1,
        dropout_features=0.2,
        dropout_agg=0.3,
    ) == {
        "normalize": True,
        "extractor": ConvExtractorConfig(
            layers=EXTRACTOR_LAYERS,
            activation="gelu",
            affine_norm=False,
            residual_scale=0.25,
            log_compression=False,
        ),
        "frame_dropout": 0.2,
        "aggregator": AggregatorConfig(
            layers=AGGREGATOR_LAYERS,
            activation="gelu",
            affine_norm=False,
            bias=False,
            zero_padding=True,
            residual_scale=None,
            dropout=0.1,
        ),
    }


@pytest.mark.parametrize("name", ["log_compression", "skip_connections_agg"])
def test_a_namespace_must_give_what_versions_differ_in(name: str) -> None:
    given = {**OPTIONS, "log_compression": False, "skip_connections_agg": True}
    options = Options({key: value for key, value in given.items() if key != name}, "args")
    payload = {"args": options, "model": {}}
    with pytest.raises(CheckpointError, match=f"args lacks {name}"):
        conv_encoder_fields(payload, options, options)


@pytest.mark.parametrize(
    ("task", "model", "reason"),
    [
        ({}, {"aggregator": "gru"}, "model_cfg.aggregator must be 'cnn', but is 'gru'"),
        ({}, {"activation": "tanh"}, "activation must be one of relu, gelu"),
        ({}, {"conv_feature_layers": "os.getcwd()"}, "has a conv_feature_layers that does not"),
        ({}, {"conv_aggregator_layers": None}, "lacks conv_aggregator_layers"),
        ({"sample_rate": 8_000}, {}, "must have a sample_rate of 16000"),
    ],
)
def test_what_conv_encoders_do_not_implement_is_refused(
    task: dict[str, Any], model: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        fields(task, **model)


def vq_payload(**model: Any) -> dict[str, Any]:
    layers = {"conv_feature_layers": "[(8, 10, 5)]", "conv_aggregator_layers": "[(8, 2, 1)]"}
    return {"task_cfg": {}, "model_cfg": {**layers, **model}, "model_weight": {}}


def convert_vq(payload: dict[str, Any]) -> Converted:
    return convert_conv_encoder(payload, FAMILIES["vq_wav2vec"])


def wav2vec_payload(**model: Any) -> dict[str, Any]:
    layers = {
        "conv_feature_layers": "[(4, 10, 5), (4, 4, 2)]",
        "conv_aggregator_layers": "[(4, 2, 1), (6, 3, 1)]",
    }
    return {"task_cfg": {}, "model_cfg": {**layers, **model}, "model_weight": {}}


def convert_wav2vec(payload: dict[str, Any]) -> Any:
    return convert_conv_encoder(payload, FAMILIES["wav2vec"])


def quantizer_keys(**model: Any) -> set[str]:
    converted = convert_vq(vq_payload(**model))
    assert isinstance(converted.config, VqWav2VecConfig)
    names = VqWav2Vec(converted.config).state_dict()
    originals = {converted.keymap.original(name) for name in names}
    prefix = "vector_quantizer."
    return {key.removeprefix(prefix) for key in originals if key.startswith(prefix)}


def test_gumbel_options_and_keys() -> None:
    for temperature in ("(2.0, 0.5, 0.9)", (2.0, 0.5, 0.9), [2.0, 0.5, 0.9]):
        config = convert_vq(
            vq_payload(
                vq_type="gumbel", vq_vars=5, vq_groups=4, combine_groups=True, vq_depth=2,
                vq_temp=temperature,
            )
        ).config  # fmt: skip
        assert isinstance(config, VqWav2VecConfig)
        assert config.quantizer == GumbelQuantizerConfig(
            num_groups=4, num_entries=5, is_shared=True, depth=2, temperature=(2.0, 0.5, 0.9)
        )
    assert quantizer_keys(vq_type="gumbel") == {"vars", "weight_proj.weight", "weight_proj.bias"}
    assert quantizer_keys(vq_type="gumbel", vq_depth=3) == {
        "vars",
        *(
            f"weight_proj.{place}.{part}"
            for place in ("0.0", "1.0", "2")
            for part in ("weight", "bias")
        ),
    }


def test_kmeans_options_and_keys() -> None:
    config = convert_vq(vq_payload(vq_type="kmeans", vq_gamma=0.5)).config
    assert isinstance(config, VqWav2VecConfig)
    assert config.quantizer == KmeansQuantizerConfig(
        num_groups=2, num_entries=320, is_shared=False, commitment=0.5
    )
    assert quantizer_keys(vq_type="kmeans") == {
        "embedding", "projection.0.weight", "projection.1.weight", "projection.1.bias"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({}, "lacks vq_type"),
        ({"vq_type": "none"}, "vq_type must be one of gumbel, kmeans"),
        ({"vq_type": "kmeans", "vq_groups": 3}, "evenly among 3"),
        ({"vq_type": "kmeans", "vq_dim": 16}, "vq_dim of 0 or 8"),
        ({"vq_type": "gumbel", "vq_temp": (2.0, 0.5)}, "3 numbers in vq_temp"),
        ({"vq_type": "gumbel", "vq_depth": 0}, "at least 1"),
    ],
)
def test_what_does_not_hold_is_refused(model: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        convert_vq(vq_payload(**model))


def test_a_quantised_width_of_the_extractors_is_the_same_as_none() -> None:
    assert convert_vq(vq_payload(vq_type="kmeans", vq_dim=8)).config == (
        convert_vq(vq_payload(vq_type="kmeans")).config
    )


def test_every_weight_has_its_original_key() -> None:
    config = convert_wav2vec(wav2vec_payload()).config
    keymap = conv_encoder_keys(FAMILIES["wav2vec"], config)
    originals = {keymap.original(name) for name in Wav2Vec(config).state_dict()}
    assert originals == {
        *(f"feature_extractor.conv_layers.{layer}.0.weight" for layer in range(2)),
        *(
            f"feature_extractor.conv_layers.{layer}.2.{part}"
            for layer in range(2)
            for part in ("weight", "bias")
        ),
        *(
            f"feature_aggregator.conv_layers.{layer}.{module}.{part}"
            for layer in range(2)
            for module in (1, 3)
            for part in ("weight", "bias")
        ),
        "feature_aggregator.residual_proj.1.weight",
    }


def test_what_pretraining_alone_uses_is_dropped() -> None:
    weight = torch.zeros(1)
    keys = [
        "wav2vec_predictions.project_to_steps.weight",
        "project_features.conv_layers.0.1.weight",
        "vector_quantizer.vars",
        "feature_extractor.conv_layers.0.9",
    ]
    keymap = conv_encoder_keys(FAMILIES["wav2vec"], convert_wav2vec(wav2vec_payload()).config)
    found = keymap.locate(dict.fromkeys(keys, weight), {})
    assert found.dropped == tuple(keys[:3])
    assert found.unfamiliar == ("vector_quantizer.vars",)
    assert found.unknown == tuple(keys[3:])


def test_a_quantised_model_is_of_another_family() -> None:
    with pytest.raises(CheckpointError, match="is of the family vq_wav2vec"):
        convert_wav2vec(wav2vec_payload(vq_type="gumbel"))


def test_a_config_that_does_not_hold_is_a_bad_checkpoint() -> None:
    with pytest.raises(CheckpointError, match="residual_scale must be at least 0"):
        convert_wav2vec(wav2vec_payload(residual_scale=-1.0))
