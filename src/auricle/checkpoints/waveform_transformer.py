"""Encoders of the wav2vec 2.0 kind, in the options and keys of fairseq and of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from auricle.catalogue.family import Family, FamilyFormat, Field
from auricle.checkpoints import fairseq, huggingface, state_dicts
from auricle.checkpoints.keymap import Converted, KeyMap, has_part, unwrapped
from auricle.checkpoints.options import (
    Options,
    build_config,
    check_demands,
    merged_fields,
    read_config,
    rotary_rounding,
)
from auricle.checkpoints.state_dicts import state_dict
from auricle.info import SAMPLE_RATE
from auricle.models.definition import Config, FeatureConfig
from auricle.models.self_distilled import DinoSrConfig
from auricle.models.waveform_transformer import WaveformEncoderConfig, WaveformTransformerConfig
from auricle.nn.conformer import ConformerConfig
from auricle.nn.waveform_extractor import PUBLISHED_LAYERS

Table = tuple[tuple[str, str], ...]

HUGGINGFACE_EPS = 1e-7
"""Constant that `Wav2Vec2FeatureExtractor` adds to the variance."""

DISTILLER_SPEC = "s3prl-distiller"
"""Name of the format of DistilHuBERT's authors, fairseq's keys in a checkpoint of s3prl."""

FAIRSEQ_EPS = 1e-5
"""Constant that `torch.nn.functional.layer_norm` adds to the variance."""

HUGGINGFACE_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
    "tanh": "tanh",
    "linear": "linear",
}
"""Names in transformers; of synonyms the first is written."""

FAIRSEQ_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "swish": "swish",
    "tanh": "tanh",
}


def _option(name: str, default: object, values: dict[str, Any] | None = None) -> Field:
    return Field(option=name, default=default, values=values or {})


HUGGINGFACE_FIELDS = {
    "extractor.norm": _option("feat_extract_norm", "group"),
    "extractor.bias": _option("conv_bias", False),
    "extractor.activation": _option("feat_extract_activation", "gelu", HUGGINGFACE_ACTIVATIONS),
    "projection_norm": Field(value=True),
    "projection_dropout": _option("feat_proj_dropout", 0.0),
    "transformer.hidden_size": _option("hidden_size", 768),
    "transformer.num_layers": _option("num_hidden_layers", 12),
    "transformer.num_heads": _option("num_attention_heads", 12),
    "transformer.ffn_size": _option("intermediate_size", 3072),
    "transformer.activation": _option("hidden_act", "gelu", HUGGINGFACE_ACTIVATIONS),
    "transformer.pre_layer_norm": _option("do_stable_layer_norm", False),
    "transformer.layer_norm_eps": _option("layer_norm_eps", 1e-5),
    "transformer.positions.kind": Field(value="weight_norm"),
    "transformer.positions.kernel_size": _option("num_conv_pos_embeddings", 128),
    "transformer.positions.num_groups": _option("num_conv_pos_embedding_groups", 16),
    "transformer.relative_positions": Field(value=None),
    "transformer.alibi": Field(value=None),
    "transformer.qkv_bias": Field(value=True),
    "transformer.dropout": _option("hidden_dropout", 0.1),
    "transformer.attention_dropout": _option("attention_dropout", 0.1),
    "transformer.activation_dropout": _option("activation_dropout", 0.1),
    "transformer.layer_drop": _option("layerdrop", 0.1),
}
"""Fields of the config in `config.json`, for families that say nothing else."""

FAIRSEQ_FIELDS = {
    "extractor.norm": _option(
        "extractor_mode", "default", {"default": "group", "layer_norm": "layer"}
    ),
    "extractor.bias": _option("conv_bias", False),
    "projection_dropout": _option("dropout_input", 0.0),
    "transformer.hidden_size": _option("encoder_embed_dim", 768),
    "transformer.num_layers": _option("encoder_layers", 12),
    "transformer.num_heads": _option("encoder_attention_heads", 12),
    "transformer.ffn_size": _option("encoder_ffn_embed_dim", 3072),
    "transformer.activation": _option("activation_fn", "gelu", FAIRSEQ_ACTIVATIONS),
    "transformer.pre_layer_norm": _option("layer_norm_first", False),
    "transformer.positions.num_groups": _option("conv_pos_groups", 16),
    "transformer.dropout": _option("dropout", 0.1),
    "transformer.attention_dropout": _option("attention_dropout", 0.1),
    "transformer.activation_dropout": _option("activation_dropout", 0.0),
    "transformer.layer_drop": _option("encoder_layerdrop", 0.0),
}
"""Fields of the config in the options of fairseq's model."""

MIN_STACKED_KERNEL = 3
"""Least kernel of stacked convolutions of positions, however many share `conv_pos`."""

_LAYER = "transformer.layers.{i}."
HUGGINGFACE_KEYS: Table = (
    ("feature_extractor.conv_layers.{i}.conv.{rest}", "extractor.convs.{i}.{rest}"),
    ("feature_extractor.conv_layers.{i}.layer_norm.{rest}", "extractor.norms.{i}.{rest}"),
    ("feature_projection.layer_norm.{rest}", "projection_norm.{rest}"),
    ("feature_projection.projection.{rest}", "projection.{rest}"),
    (
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        "transformer.positions.convs.0.weight_g",
    ),
    (
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        "transformer.positions.convs.0.weight_v",
    ),
    ("encoder.pos_conv_embed.conv.{rest}", "transformer.positions.convs.0.{rest}"),
    ("encoder.pos_conv_embed.batch_norm.{rest}", "transformer.positions.batch_norm.{rest}"),
    ("encoder.layer_norm.{rest}", "transformer.norm.{rest}"),
    ("encoder.layers.{i}.attention.q_proj.{rest}", f"{_LAYER}attention.query.{{rest}}"),
    ("encoder.layers.{i}.attention.k_proj.{rest}", f"{_LAYER}attention.key.{{rest}}"),
    ("encoder.layers.{i}.attention.v_proj.{rest}", f"{_LAYER}attention.value.{{rest}}"),
    ("encoder.layers.{i}.attention.out_proj.{rest}", f"{_LAYER}attention.out.{{rest}}"),
    ("encoder.layers.{i}.layer_norm.{rest}", f"{_LAYER}attention_norm.{{rest}}"),
    ("encoder.layers.{i}.feed_forward.intermediate_dense.{rest}", f"{_LAYER}ffn_in.{{rest}}"),
    ("encoder.layers.{i}.feed_forward.output_dense.{rest}", f"{_LAYER}ffn_out.{{rest}}"),
    ("encoder.layers.{i}.final_layer_norm.{rest}", f"{_LAYER}ffn_norm.{{rest}}"),
)
HUGGINGFACE_UNUSED = (
    "masked_spec_embed",  # replaces masked frames in training
    # Heads of the models for pretraining, CTC, classification and speaker verification.
    "quantizer.{rest}",
    "project_q.{rest}",
    "project_hid.{rest}",
    "lm_head.{rest}",
    "dropout_features.{rest}",
    "projector.{rest}",
    "classifier.{rest}",
    "layer_weights",
    "tdnn.{rest}",
    "objective.{rest}",
)

FAIRSEQ_NORM_KEYS: dict[str, Table] = {
    "group": (("feature_extractor.conv_layers.{i}.2.{rest}", "extractor.norms.{i}.{rest}"),),
    "layer": (("feature_extractor.conv_layers.{i}.2.1.{rest}", "extractor.norms.{i}.{rest}"),),
}
FAIRSEQ_POSITION_KEYS: dict[str, Table] = {
    "weight_norm": (
        (
            "encoder.pos_conv.0.parametrizations.weight.original0",
            "transformer.positions.convs.0.weight_g",
        ),
        (
            "encoder.pos_conv.0.parametrizations.weight.original1",
            "transformer.positions.convs.0.weight_v",
        ),
        ("encoder.pos_conv.0.{rest}", "transformer.positions.convs.0.{rest}"),
    ),
    "plain": (("encoder.pos_conv.0.{rest}", "transformer.positions.convs.0.{rest}"),),
    "batch_norm": (
        ("encoder.pos_conv.0.{rest}", "transformer.positions.batch_norm.{rest}"),
        ("encoder.pos_conv.1.{rest}", "transformer.positions.convs.0.{rest}"),
    ),
    "stack": (("encoder.pos_conv.{i}.0.{rest}", "transformer.positions.convs.{i}.{rest}"),),
}
FAIRSEQ_KEYS: Table = (
    ("feature_extractor.conv_layers.{i}.0.{rest}", "extractor.convs.{i}.{rest}"),
    ("layer_norm.{rest}", "projection_norm.{rest}"),
    ("post_extract_proj.{rest}", "projection.{rest}"),
    ("encoder.layer_norm.{rest}", "transformer.norm.{rest}"),
    ("encoder.layers.{i}.self_attn.q_proj.{rest}", f"{_LAYER}attention.query.{{rest}}"),
    ("encoder.layers.{i}.self_attn.k_proj.{rest}", f"{_LAYER}attention.key.{{rest}}"),
    ("encoder.layers.{i}.self_attn.v_proj.{rest}", f"{_LAYER}attention.value.{{rest}}"),
    ("encoder.layers.{i}.self_attn.out_proj.{rest}", f"{_LAYER}attention.out.{{rest}}"),
    ("encoder.layers.{i}.self_attn_layer_norm.{rest}", f"{_LAYER}attention_norm.{{rest}}"),
    ("encoder.layers.{i}.fc1.{rest}", f"{_LAYER}ffn_in.{{rest}}"),
    ("encoder.layers.{i}.fc2.{rest}", f"{_LAYER}ffn_out.{{rest}}"),
    ("encoder.layers.{i}.final_layer_norm.{rest}", f"{_LAYER}ffn_norm.{{rest}}"),
)
FAIRSEQ_UNUSED = (
    "mask_emb",
    "quantizer.{rest}",
    "project_q.{rest}",
    "final_proj.{rest}",
    "target_glu.{rest}",
    "label_embs_concat",
    "_ema.{rest}",
)


def convert_huggingface(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a model of transformers.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    spec = family.formats[huggingface.SPEC]
    options = huggingface.encoder_options(payload)
    preprocessor = Options(payload[huggingface.PREPROCESSOR], huggingface.PREPROCESSOR_FILE)
    if not payload.get(state_dicts.WITHOUT_ADAPTERS):
        options.demand("add_adapter", False, state_dicts.ADAPTER_REASON)
        if "adapter_attn_dim" in options:
            raise options.error(f"has adapter_attn_dim: {state_dicts.ADAPTER_REASON}")
    check_demands(spec.demands, options)
    preprocessor.demand("sampling_rate", SAMPLE_RATE, "encoders read audio at that rate in Hz")
    given = _front_end(family, options, preprocessor)
    fields = huggingface_fields(family)
    config = read_config(family.config_type(), fields, options, given)
    weights = state_dict(payload[huggingface.WEIGHTS], "the file of weights")
    return Converted(_rounded(config, weights), weights, huggingface_keys(spec))


def _front_end(family: Family, options: Options, preprocessor: Options) -> dict[str, Any]:
    """Fields of a config that say what the first layer reads."""
    published = family.config_type()()
    if not isinstance(published, FeatureConfig):
        return {
            "normalize": preprocessor.get("do_normalize", bool, True),
            "normalize_eps": HUGGINGFACE_EPS,
            "extractor.layers": _huggingface_layers(options),
        }
    features = build_config(
        lambda: msgspec.structs.replace(
            published.features,
            num_mels=preprocessor.get("num_mel_bins", int, 80),
            stack=preprocessor.get("stride", int, 2),
        )
    )
    width = options.get("feature_projection_input_dim", int, features.dim)
    if width != features.dim:
        raise options.error(
            f"has a feature_projection_input_dim of {width}, but {huggingface.PREPROCESSOR_FILE} "
            f"makes frames {features.dim} wide"
        )
    return {"features": features}


def huggingface_fields(family: Family) -> dict[str, Field]:
    """Fields of a family's config in `config.json`."""
    spec = family.formats[huggingface.SPEC]
    return merged_fields(_own(HUGGINGFACE_FIELDS, family), spec.fields)


def _own(fields: Mapping[str, Field], family: Family) -> dict[str, Field]:
    """Those fields that the config of a family has."""
    names = family.config_type().__struct_fields__
    return {name: field for name, field in fields.items() if name.partition(".")[0] in names}


def huggingface_keys(spec: FamilyFormat) -> KeyMap:
    """The table of keys of a family in transformers."""
    return KeyMap((*spec.keys, *HUGGINGFACE_KEYS), (*HUGGINGFACE_UNUSED, *spec.unused))


def convert_fairseq(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a fairseq checkpoint.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    task, model, weights = fairseq.sections(payload)
    if model.get("layer_type", str, "") == state_dicts.FAIRSEQ_ADAPTERS:
        if not payload.get(state_dicts.WITHOUT_ADAPTERS):
            kind = state_dicts.FAIRSEQ_ADAPTERS
            raise model.error(f"has layer_type {kind}: {state_dicts.ADAPTER_REASON}")
        model = model.without(["layer_type"])
    return _converted(task, model, weights, family, family.formats[fairseq.SPEC])


def convert_wavlm(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a checkpoint in the format of WavLM's authors.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    options = Options(payload["cfg"], "cfg")
    weights = state_dict(payload["model"], "model")
    return _converted(options, options, weights, family, family.formats[fairseq.WAVLM_SPEC])


def matches_distiller(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `s3prl-distiller`."""
    return isinstance(content.get("Distiller"), Mapping) and isinstance(
        content.get("Config"), Mapping
    )


def convert_distiller(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a DistilHuBERT of s3prl.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    options = Options(payload["Config"], "Config").section("distiller")
    weights = state_dict(payload["Distiller"], "Distiller")
    return _converted(options, options, weights, family, family.formats[DISTILLER_SPEC])


def _converted(
    task: Options, model: Options, weights: Mapping[str, Any], family: Family, spec: FamilyFormat
) -> Converted:
    is_transformer = issubclass(family.config_type(), WaveformTransformerConfig)
    model.choice("layer_type", ("transformer" if is_transformer else "conformer",), "transformer")
    model.demand("quantize_input", False, "quantised inputs are not implemented")
    model.demand("crop_seq_to_multiple", 1, "every frame of an utterance is kept")
    check_demands(spec.demands, model)
    layers = _fairseq_layers(model)
    width = model.get("encoder_embed_dim", int, 768)
    given = {
        "normalize": task.get("normalize", bool, False),
        "normalize_eps": FAIRSEQ_EPS,
        "extractor.layers": layers,
        # fairseq leaves the projection out where it would not change the width, but in data2vec.
        "projection": width != layers[-1][0] or has_part(weights, "post_extract_proj"),
        **(_fairseq_positions(model) if is_transformer else {}),
    }
    if issubclass(family.config_type(), DinoSrConfig):
        # By number: a moving average beside the model has heads of its own.
        heads = {unwrapped(key).split(".")[-2] for key in weights if has_part([key], "heads")}
        given["num_codebooks"] = len(heads)
    fields = merged_fields(_own(FAIRSEQ_FIELDS, family), spec.fields)
    config = read_config(family.config_type(), fields, model, given)
    assert isinstance(config, WaveformEncoderConfig)
    return Converted(_rounded(config, weights), weights, fairseq_keys(config, spec))


def _rounded(config: Config, weights: Mapping[str, Any]) -> Config:
    """The config with the rounding of rotary positions that the weights show."""
    blocks = getattr(config, "conformer", None)
    if not isinstance(blocks, ConformerConfig) or blocks.positions.kind != "rotary":
        return config
    head_size = blocks.hidden_size // blocks.num_heads
    rounding = rotary_rounding(weights, head_size, blocks.positions.rotary_base)
    positions = msgspec.structs.replace(blocks.positions, rotary_rounding=rounding)
    blocks = msgspec.structs.replace(blocks, positions=positions)
    return msgspec.structs.replace(config, conformer=blocks)


def fairseq_keys(config: WaveformEncoderConfig, spec: FamilyFormat) -> KeyMap:
    """The table of keys of a family in fairseq; norms and positions depend on their kind."""
    positions: Table = ()
    if isinstance(config, WaveformTransformerConfig):
        positions = FAIRSEQ_POSITION_KEYS[config.transformer.positions.kind]
    return KeyMap(
        (
            *spec.keys,
            *FAIRSEQ_NORM_KEYS[config.extractor.norm],
            *positions,
            *FAIRSEQ_KEYS,
        ),
        (*FAIRSEQ_UNUSED, *spec.unused),
    )


def _huggingface_layers(options: Options) -> tuple[tuple[int, ...], ...]:
    columns = [
        options.get(name, list[int], [layer[column] for layer in PUBLISHED_LAYERS])
        for column, name in enumerate(("conv_dim", "conv_kernel", "conv_stride"))
    ]
    if len({len(column) for column in columns}) > 1:
        raise options.error(
            "must list as many conv_dim as conv_kernel and conv_stride, but lists "
            + ", ".join(str(len(column)) for column in columns)
        )
    return tuple(zip(*columns, strict=True))


def _fairseq_layers(model: Options) -> tuple[tuple[int, int, int], ...]:
    for name in ("conv_feature_layers", "extractor_conv_feature_layers"):  # s3prl: the second
        if name in model:
            return tuple(fairseq.parse_layers(model.require(name, object)))
    return PUBLISHED_LAYERS


def _fairseq_positions(model: Options) -> dict[str, Any]:
    """Fields of the convolutions of positions: several share `conv_pos` frames."""
    kernel_size = model.get("conv_pos", int, 128)
    depth = model.get("pos_conv_depth", int, 1)
    place = "transformer.positions."
    if depth > 1:
        kernel_size = max(MIN_STACKED_KERNEL, kernel_size // depth)
        return {f"{place}kind": "stack", f"{place}kernel_size": kernel_size, f"{place}depth": depth}
    has_batch_norm = model.get("conv_pos_batch_norm", bool, False)
    kind = "batch_norm" if has_batch_norm else "weight_norm"
    return {f"{place}kind": kind, f"{place}kernel_size": kernel_size}
