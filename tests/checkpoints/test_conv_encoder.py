from __future__ import annotations

from typing import Any

import pytest

from auricle.checkpoints.conv_encoder import encoder_fields
from auricle.checkpoints.options import Options
from auricle.errors import CheckpointError
from auricle.nn.conv_features import AggregatorConfig, ExtractorConfig

MODEL = {
    "conv_feature_layers": "[(8, 10, 5)] + [(8, 4, 2)] * 2",
    "conv_aggregator_layers": [[8, 2, 1], [8, 3, 1]],
}
EXTRACTOR_LAYERS = ((8, 10, 5), (8, 4, 2), (8, 4, 2))
AGGREGATOR_LAYERS = ((8, 2, 1), (8, 3, 1))


def fields(task: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    return encoder_fields(
        {}, Options(task or {}, "task_cfg"), Options({**MODEL, **model}, "model_cfg")
    )


def test_defaults_are_those_of_the_original() -> None:
    assert fields() == {
        "normalize": False,
        "extractor": ExtractorConfig(
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


def test_every_option_is_read() -> None:
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
        "extractor": ExtractorConfig(
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
    given = {**MODEL, "log_compression": False, "skip_connections_agg": True}
    options = Options({key: value for key, value in given.items() if key != name}, "args")
    payload = {"args": options, "model": {}}
    with pytest.raises(CheckpointError, match=f"args lacks {name}"):
        encoder_fields(payload, options, options)


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
def test_what_is_not_implemented_is_refused(
    task: dict[str, Any], model: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        fields(task, **model)
