"""vq-wav2vec checkpoints (formats `fairseq-args`, `fairseq-cfg`, `s3prl-converted`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints import fairseq
from auricle.checkpoints.conv_encoder import ENCODER_KEYS, PREDICTION_KEYS, encoder_fields
from auricle.checkpoints.converted import Converted, build_config
from auricle.checkpoints.keymap import KeyMap
from auricle.checkpoints.options import Options
from auricle.models.vq_wav2vec import VqWav2VecConfig
from auricle.nn.vector_quantizer import GumbelQuantizerConfig, KmeansQuantizerConfig

KMEANS_KEYS = (
    ("vector_quantizer.embedding", "quantizer.vectors"),
    ("vector_quantizer.projection.0.{rest}", "quantizer.projection.{rest}"),
    ("vector_quantizer.projection.1.{rest}", "quantizer.norm.{rest}"),
)


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a vq-wav2vec checkpoint.

    Raises:
        CheckpointError: An option or a weight section is missing or not what it should be.
    """
    task, model, weights = fairseq.sections(payload)
    config = build_config(
        lambda: VqWav2VecConfig(
            **encoder_fields(payload, task, model), quantizer=_quantizer_config(model)
        )
    )
    vq_dim = model.get("vq_dim", int, 0)
    if vq_dim not in (0, config.extractor.dim):
        raise model.error(
            f"must have a vq_dim of 0 or {config.extractor.dim}, the extractor's width that the "
            f"aggregator reads, but has {vq_dim}"
        )
    return Converted(config, weights, keys(config.quantizer))


def keys(quantizer: GumbelQuantizerConfig | KmeansQuantizerConfig) -> KeyMap:
    """The table of keys; the quantiser's depend on its kind."""
    return KeyMap((*ENCODER_KEYS, *_quantizer_keys(quantizer)), PREDICTION_KEYS)


def _quantizer_config(model: Options) -> GumbelQuantizerConfig | KmeansQuantizerConfig:
    shared: dict[str, Any] = {
        "num_groups": model.get("vq_groups", int, 2),
        "num_entries": model.get("vq_vars", int, 320),
        "is_shared": model.get("combine_groups", bool, False),
    }
    if model.choice("vq_type", ("gumbel", "kmeans"), None) == "kmeans":
        return KmeansQuantizerConfig(**shared, commitment=model.get("vq_gamma", float, 0.25))
    if "vq_temp" in model:
        temperature = tuple(fairseq.parse_numbers(model.require("vq_temp", object)))
        if len(temperature) != 3:
            raise model.error(f"must have 3 numbers in vq_temp, but has {temperature}")
        shared["temperature"] = temperature
    return GumbelQuantizerConfig(**shared, depth=model.get("vq_depth", int, 1))


def _quantizer_keys(
    config: GumbelQuantizerConfig | KmeansQuantizerConfig,
) -> tuple[tuple[str, str], ...]:
    if isinstance(config, KmeansQuantizerConfig):
        return KMEANS_KEYS
    output = "" if config.depth == 1 else f"{config.depth - 1}."
    return (
        ("vector_quantizer.vars", "quantizer.vectors"),
        ("vector_quantizer.weight_proj.{i}.0.{rest}", "quantizer.hidden.{i}.{rest}"),
        (f"vector_quantizer.weight_proj.{output}weight", "quantizer.output.weight"),
        (f"vector_quantizer.weight_proj.{output}bias", "quantizer.output.bias"),
    )
