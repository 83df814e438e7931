"""What wav2vec and vq-wav2vec checkpoints share: options and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.convert.fairseq import matches_args, parse_layers
from auricle.convert.options import Options
from auricle.errors import CheckpointError
from auricle.geometry import SAMPLE_RATE
from auricle.nn.conv_features import AggregatorConfig, ExtractorConfig

ENCODER_KEYS = (
    ("feature_extractor.conv_layers.{i}.0.{rest}", "extractor.layers.{i}.conv.{rest}"),
    ("feature_extractor.conv_layers.{i}.2.{rest}", "extractor.layers.{i}.norm.{rest}"),
    ("feature_aggregator.conv_layers.{i}.1.{rest}", "aggregator.layers.{i}.conv.{rest}"),
    ("feature_aggregator.conv_layers.{i}.3.{rest}", "aggregator.layers.{i}.norm.{rest}"),
    ("feature_aggregator.residual_proj.{i}.{rest}", "aggregator.layers.{i}.residual.{rest}"),
)

PREDICTION_KEYS = ("wav2vec_predictions.{rest}", "project_features.{rest}")
"""What predicts frames ahead, and what projects the frames to be predicted; pretraining alone
uses them."""


def encoder_fields(payload: Mapping[str, Any], task: Options, model: Options) -> dict[str, Any]:
    """The fields of a `ConvEncoderConfig` that the options of a checkpoint describe.

    Raises:
        CheckpointError: An option is missing, or asks for what is not implemented.
    """
    model.demand(
        "aggregator", "cnn", "no published file has a GRU, and its code ran it across the batch"
    )
    if task.get("sample_rate", int, SAMPLE_RATE) != SAMPLE_RATE:
        raise task.error(f"must have a sample_rate of {SAMPLE_RATE}, the one of these encoders")
    shared: dict[str, Any] = {
        "activation": model.choice("activation", ("relu", "gelu"), "relu"),
        "affine_norm": not model.get("non_affine_group_norm", bool, False),
    }
    scale = model.get("residual_scale", float, 0.5)
    is_namespace = matches_args(payload)
    return {
        "normalize": task.get("normalize", bool, False),
        "extractor": ExtractorConfig(
            **shared,
            layers=_layers(model, "conv_feature_layers"),
            residual_scale=scale if model.get("skip_connections_feat", bool, False) else None,
            log_compression=_flag(model, "log_compression", is_namespace),
        ),
        "frame_dropout": model.get("dropout_features", float, 0.0),
        "aggregator": AggregatorConfig(
            **shared,
            layers=_layers(model, "conv_aggregator_layers"),
            bias=not model.get("no_conv_bias", bool, False),
            zero_padding=model.get("agg_zero_pad", bool, False),
            residual_scale=scale if _flag(model, "skip_connections_agg", is_namespace) else None,
            dropout=model.get("dropout", float, 0.0),
        ),
    }


def _layers(model: Options, name: str) -> tuple[tuple[int, int, int], ...]:
    value = model.require(name, object)
    try:
        return tuple(parse_layers(value))
    except CheckpointError as error:
        raise model.error(f"has a {name} that does not hold: {error}") from error


def _flag(model: Options, name: str, is_namespace: bool) -> bool:
    """A flag that later versions of the original code have on and earlier ones had off.

    Sections are of the later versions. A namespace may be of either, so there it must be given.
    """
    return model.require(name, bool) if is_namespace else model.get(name, bool, True)
