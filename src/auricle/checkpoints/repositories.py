"""Formats of the authors' repositories of PASE, CPC_audio and Whisper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from auricle.catalogue.family import Family
from auricle.checkpoints.keymap import Converted, KeyMap, has_part
from auricle.checkpoints.options import (
    Options,
    build_config,
    check_demands,
    read_config,
)
from auricle.checkpoints.pickle.unpickle import as_mapping
from auricle.checkpoints.state_dicts import in_float32, state_dict, weights_in
from auricle.models.pase import PaseConfig

ONLY_VALUES: dict[str, object] = {
    "name": "WaveFe",
    "num_inputs": 1,
    "sincnet": True,
    "norm_type": "bnorm",
    "pad_mode": "reflect",
    "sr": 16_000,
    "activation": "prelu",
    "rnn_type": "qrnn",
    "vq_K": 0,
    "tanh_out": False,
    "resblocks": False,
}
"""Options of which the published encoders use one value, the reference's default."""

READ_OPTIONS = (
    "kwidths",
    "strides",
    "dilations",
    "fmaps",
    "emb_dim",
    "rnn_pool",
    "rnn_dim",
    "rnn_layers",
    "rnn_dropout",
    "denseskips",
    "densemerge",
    "norm_out",
)
TRAINING_OPTIONS = ("vq_beta", "vq_gamma")

PASE_KEY = "blocks.0.conv.low_hz_"
"""A weight that PASE alone has."""


def matches_pase(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint holds the weights of a PASE."""
    return has_part(weights_in(content), *PASE_KEY.split("."))


def convert_pase(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a checkpoint: `config` from the JSON file beside it, and `weights`.

    Absent options have the reference's defaults.

    Raises:
        CheckpointError: It is of a variant that is not implemented.
    """
    options = Options(payload["config"], "the PASE config")
    options.refuse_unknown((*READ_OPTIONS, *ONLY_VALUES, *TRAINING_OPTIONS))
    for name, value in ONLY_VALUES.items():
        options.demand(name, value, "other variants are not implemented")
    if any(dilation != 1 for dilation in options.get("dilations", list[int], [])):
        raise options.error("has dilations other than 1, which are not implemented")
    weights = state_dict(payload["weights"], "the weights")
    spec = family.formats["pase"]
    config = build_config(lambda: _pase_config(options))
    return Converted(config, weights, KeyMap(spec.keys, spec.unused))


def _pase_config(options: Options) -> PaseConfig:
    embedding_dim = options.get("emb_dim", int, 256)
    has_rnn = options.get("rnn_pool", bool, False)
    rnn_dim = options.get("rnn_dim", int, embedding_dim) if has_rnn else None
    merges: tuple[Literal["sum", "concat"], ...] = ("sum", "concat")
    merge = options.choice("densemerge", merges, "sum")
    return PaseConfig(
        kernel_sizes=options.get("kwidths", tuple[int, ...], (251, 10, 5, 5, 5, 5, 5, 5)),
        strides=options.get("strides", tuple[int, ...], (1, 10, 2, 1, 2, 1, 2, 2)),
        block_dims=options.get("fmaps", tuple[int, ...], (64, 64, 128, 128, 256, 256, 512, 512)),
        embedding_dim=embedding_dim,
        rnn_dim=rnn_dim,
        num_rnn_layers=options.get("rnn_layers", int, 1),
        rnn_dropout=options.get("rnn_dropout", float, 0.0),
        skip_merge=merge if options.get("denseskips", bool, False) else None,
        normalizes_output=options.get("norm_out", bool, False),
    )


def matches_cpc(content: Mapping[str, Any]) -> bool:
    weights = content.get("weights")
    return (
        content.get("config") is not None
        and isinstance(weights, Mapping)
        and has_part(weights, "gEncoder")
    )


def convert_cpc(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a CPC checkpoint; absent options have the reference's defaults.

    Raises:
        CheckpointError: It is of a variant with another encoder or another context network.
    """
    spec = family.formats["cpc-audio"]
    options = Options(as_mapping(payload["config"]), "config")
    check_demands(spec.demands, options)
    config = read_config(family.config_type(), spec.fields, options)
    return Converted(
        config, state_dict(payload["weights"], "weights"), KeyMap(spec.keys, spec.unused)
    )


WHISPER = "openai-whisper"
"""Name of the format of OpenAI's files, in messages and in data files."""


WHISPER_FFN_FACTOR = 4
"""Width of Whisper's feed-forward part as a multiple of its own, in the authors' code."""


def matches_whisper(content: Mapping[str, Any]) -> bool:
    dims, weights = content.get("dims"), content.get("model_state_dict")
    return isinstance(dims, Mapping) and isinstance(weights, Mapping)


def convert_whisper(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a file of OpenAI's, float16 in part, which are computed in float32.

    Raises:
        CheckpointError: A dimension is absent, or not one that the authors' code takes.
    """
    spec = family.formats[WHISPER]
    options = Options(as_mapping(payload["dims"]), "dims")
    check_demands(spec.demands, options)
    given = {"ffn_size": WHISPER_FFN_FACTOR * options.require("n_audio_state", int)}
    config = read_config(family.config_type(), spec.fields, options, given)
    weights = in_float32(state_dict(payload["model_state_dict"], "model_state_dict"))
    return Converted(config, weights, KeyMap(spec.keys, spec.unused))
