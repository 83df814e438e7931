"""Formats `s3prl` and `s3prl-legacy`: checkpoints of Mockingjay, TERA and Audio ALBERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from auricle.catalogue.family import Family
from auricle.checkpoints.keymap import Converted, KeyMap
from auricle.checkpoints.options import Options, build_config, fbank_fields
from auricle.checkpoints.state_dicts import state_dict
from auricle.frontends import FbankConfig, LogMelConfig
from auricle.models.spectral_transformer import BertConfig, SpectralBertConfig

LAYER_KEYS = (
    ("encoder.layer.{i}.attention.self.{rest}", "bert.layers.{i}.attention.{rest}"),
    ("encoder.layer.{i}.attention.output.dense.{rest}", "bert.layers.{i}.attention.out.{rest}"),
    (
        "encoder.layer.{i}.attention.output.LayerNorm.{rest}",
        "bert.layers.{i}.attention_norm.{rest}",
    ),
    ("encoder.layer.{i}.intermediate.dense.{rest}", "bert.layers.{i}.ffn_in.{rest}"),
    ("encoder.layer.{i}.output.dense.{rest}", "bert.layers.{i}.ffn_out.{rest}"),
    ("encoder.layer.{i}.output.LayerNorm.{rest}", "bert.layers.{i}.ffn_norm.{rest}"),
)
KEYS = (
    ("input_representations.spec_transform.{rest}", "bert.project.{rest}"),
    ("input_representations.LayerNorm.{rest}", "bert.input_norm.{rest}"),
    *LAYER_KEYS,
    ("encoder.LayerNorm.{i}.{rest}", "bert.output_norms.{i}.{rest}"),
)
REPEATED_NORMS = (
    ("encoder.layer.{i}.attention.LayerNorm.{rest}", "bert.layers.{i}.attention_norm.{rest}"),
    ("encoder.layer.{i}.LayerNorm.{rest}", "bert.layers.{i}.ffn_norm.{rest}"),
)
"""Pre-norm files hold each layer's norms a second time under these names."""

SHARED_LAYER = tuple((theirs, ours.replace("{i}", "0")) for theirs, ours in LAYER_KEYS)
"""Files with a shared layer repeat it for every depth."""


def matches(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `s3prl`."""
    return all(isinstance(content.get(key), Mapping) for key in ("Transformer", "Upstream_Config"))


def matches_legacy(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `s3prl-legacy`."""
    return all(isinstance(content.get(key), Mapping) for key in ("Transformer", "Config"))


def families(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The families that a checkpoint may be of, the likeliest first."""
    config = model_config(payload)
    if config.section("transformer").get("share_layer", bool, False):
        return ("audio_albert",)
    # Mockingjay and TERA are one network; their pretraining sets them apart.
    task = config.section("task")
    alters_magnitude = task.get("noise_proportion", float, 0.0) > 0
    alters_frequency = task.get("mask_frequency", float, 0.0) > 0
    if alters_magnitude or alters_frequency or "Upstream_Config" in payload:
        return ("tera", "mockingjay")
    return ("mockingjay", "tera")


def model_config(payload: Mapping[str, Any]) -> Options:
    """The section that holds the model's configuration, whichever of the two formats it is."""
    name = "Upstream_Config" if "Upstream_Config" in payload else "Config"
    return Options(payload[name], name)


def feature_config(audio: Options) -> FbankConfig | LogMelConfig:
    """The front end that section `audio` describes.

    Raises:
        CheckpointError: It describes neither, or asks for what is not implemented.
    """
    if "kaldi" in audio:
        return _kaldi_config(audio)
    features = audio.section("input")
    kind: Literal["mel", "linear", "mfcc"]
    kind = features.choice("feat_type", ("mel", "linear", "mfcc"), None)
    return LogMelConfig(
        kind=kind,
        num_mels=audio.get("n_mels", int, 40),
        num_freqs=audio.get("n_freq", int, 201),
        num_mfcc=audio.get("n_mfcc", int, 13),
        window_ms=audio.get("win_ms", float, 25.0),
        hop_ms=audio.get("hop_ms", float, 10.0),
        target_level_db=audio.get("target_level", float, -25.0),
        log=features.get("log", bool, False),
        delta_order=features.get("delta", int, 0),
        cmvn=features.get("cmvn", bool, False),
    )


def _kaldi_config(audio: Options) -> FbankConfig:
    kaldi = audio.section("kaldi")
    kaldi.choice("feat_type", ("fbank",), None)
    fields = fbank_fields(kaldi.section("fbank"))
    fields.setdefault("window", "povey")
    fields.setdefault("num_mels", 23)  # torchaudio's default
    delta = audio.section("delta")
    return FbankConfig(
        **fields,
        delta_order=delta.get("order", int, 2),
        delta_window=delta.get("win_length", int, 5),
        cmvn=audio.section("cmvn").get("use_cmvn", bool, False),
    )


def bert_config(config: Options) -> BertConfig:
    """The Transformer that sections `transformer` and `task` describe."""
    options = config.section("transformer")
    options.demand("downsample_rate", 1, "stacking frames is not implemented")
    return BertConfig(
        hidden_size=options.require("hidden_size", int),
        num_layers=options.require("num_hidden_layers", int),
        num_heads=options.require("num_attention_heads", int),
        ffn_size=options.require("intermediate_size", int),
        activation=options.choice("hidden_act", ("gelu", "relu", "swish"), "gelu"),
        hidden_dropout=options.get("hidden_dropout_prob", float, 0.1),
        attention_dropout=options.get("attention_probs_dropout_prob", float, 0.1),
        init_std=options.get("initializer_range", float, 0.02),
        layer_norm_eps=options.get("layer_norm_eps", float, 1e-12),
        share_layer=options.get("share_layer", bool, False),
        pre_layer_norm=options.get("pre_layer_norm", bool, False),
        max_chunk_frames=config.section("task").get("sequence_length", int, 0),
    )


def convert(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a checkpoint of Mockingjay, TERA or Audio ALBERT."""
    options = model_config(payload)
    config_type = family.config_type()
    assert issubclass(config_type, SpectralBertConfig)
    config = build_config(
        lambda: config_type(
            features=feature_config(options.section("audio")), transformer=bert_config(options)
        )
    )
    weights = state_dict(payload["Transformer"], "Transformer")
    return Converted(config, weights, keys(config.transformer))


def keys(config: BertConfig) -> KeyMap:
    """The table of keys; what files hold more than once depends on the kind of Transformer."""
    return KeyMap(
        (
            *KEYS,
            *(REPEATED_NORMS if config.pre_layer_norm else ()),
            *(SHARED_LAYER if config.share_layer else ()),
        )
    )
