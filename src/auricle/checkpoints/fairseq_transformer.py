"""Encoders of the wav2vec 2.0 kind in the names and options that fairseq gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from auricle.checkpoints import fairseq
from auricle.checkpoints.converted import Converted, build_config
from auricle.checkpoints.keymap import KeyMap
from auricle.checkpoints.options import Options
from auricle.models.wav2vec2_encoder import WaveformTransformerConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.waveform_activations import WaveformActivation
from auricle.nn.waveform_extractor import PUBLISHED_LAYERS, ExtractorConfig
from auricle.nn.waveform_transformer import TransformerConfig

NORMALIZE_EPS = 1e-5
"""What `torch.nn.functional.layer_norm` adds to the variance."""

MIN_STACKED_KERNEL = 3
"""Least kernel of stacked convolutions of positions, however many share `conv_pos`."""

ACTIVATIONS: dict[str, WaveformActivation] = {
    "gelu": "gelu",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "swish": "swish",
    "tanh": "tanh",
}
EXTRACTOR_NORMS: dict[str, Literal["group", "layer"]] = {
    "default": "group",
    "layer_norm": "layer",
}

EXTRACTOR_KEYS = {
    "group": (("feature_extractor.conv_layers.{i}.2.{rest}", "extractor.norms.{i}.{rest}"),),
    "layer": (("feature_extractor.conv_layers.{i}.2.1.{rest}", "extractor.norms.{i}.{rest}"),),
}
POSITION_KEYS = {
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
    "batch_norm": (
        ("encoder.pos_conv.0.{rest}", "transformer.positions.batch_norm.{rest}"),
        ("encoder.pos_conv.1.{rest}", "transformer.positions.convs.0.{rest}"),
    ),
    "stack": (("encoder.pos_conv.{i}.0.{rest}", "transformer.positions.convs.{i}.{rest}"),),
}
_ATTENTION = "encoder.layers.{i}.self_attn."
_OUR_ATTENTION = "transformer.layers.{i}.attention."
BODY_KEYS = (
    ("feature_extractor.conv_layers.{i}.0.{rest}", "extractor.convs.{i}.{rest}"),
    ("layer_norm.{rest}", "projection_norm.{rest}"),
    ("post_extract_proj.{rest}", "projection.{rest}"),
    ("encoder.layer_norm.{rest}", "transformer.norm.{rest}"),
    (f"{_ATTENTION}q_proj.{{rest}}", f"{_OUR_ATTENTION}query.{{rest}}"),
    (f"{_ATTENTION}k_proj.{{rest}}", f"{_OUR_ATTENTION}key.{{rest}}"),
    (f"{_ATTENTION}v_proj.{{rest}}", f"{_OUR_ATTENTION}value.{{rest}}"),
    (f"{_ATTENTION}out_proj.{{rest}}", f"{_OUR_ATTENTION}out.{{rest}}"),
    (
        "encoder.layers.{i}.self_attn_layer_norm.{rest}",
        "transformer.layers.{i}.attention_norm.{rest}",
    ),
    ("encoder.layers.{i}.fc1.{rest}", "transformer.layers.{i}.ffn_in.{rest}"),
    ("encoder.layers.{i}.fc2.{rest}", "transformer.layers.{i}.ffn_out.{rest}"),
    ("encoder.layers.{i}.final_layer_norm.{rest}", "transformer.layers.{i}.ffn_norm.{rest}"),
)
PRETRAINING_KEYS = (
    "mask_emb",
    "quantizer.{rest}",
    "project_q.{rest}",
    "final_proj.{rest}",
    "target_glu.{rest}",
    "label_embs_concat",
    "_ema.{rest}",
)


def convert(payload: Mapping[str, Any], config_type: type[WaveformTransformerConfig]) -> Converted:
    """Config, of the family's own `config_type`, and weights of a fairseq checkpoint.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    task, model, weights = fairseq.sections(payload)
    model.choice("layer_type", ("transformer",), "transformer")
    model.demand("quantize_input", False, "quantised inputs are not implemented")
    model.demand("crop_seq_to_multiple", 1, "every frame of an utterance is kept")
    config = build_config(lambda: _config(task, model, config_type))
    return Converted(config, weights, keys(config))


def keys(config: WaveformTransformerConfig) -> KeyMap:
    """The table of keys; where norms and positions are depends on their kind."""
    return KeyMap(
        (
            *EXTRACTOR_KEYS[config.extractor.norm],
            *POSITION_KEYS[config.transformer.positions.kind],
            *BODY_KEYS,
        ),
        pretraining=PRETRAINING_KEYS,
    )


def _config(
    task: Options, model: Options, config_type: type[WaveformTransformerConfig]
) -> WaveformTransformerConfig:
    extractor = _extractor(model)
    transformer = _transformer(model)
    return config_type(
        normalize=task.get("normalize", bool, False),
        normalize_eps=NORMALIZE_EPS,
        extractor=extractor,
        projection=transformer.hidden_size != extractor.dim,
        projection_dropout=model.get("dropout_input", float, 0.0),
        transformer=transformer,
    )


def _extractor(model: Options) -> ExtractorConfig:
    layers: tuple[tuple[int, int, int], ...] = PUBLISHED_LAYERS
    if "conv_feature_layers" in model:
        layers = tuple(fairseq.parse_layers(model.require("conv_feature_layers", object)))
    mode = model.choice("extractor_mode", tuple(EXTRACTOR_NORMS), "default")
    return ExtractorConfig(
        layers=layers, norm=EXTRACTOR_NORMS[mode], bias=model.get("conv_bias", bool, False)
    )


def _positions(model: Options) -> ConvPositionConfig:
    kernel_size = model.get("conv_pos", int, 128)
    num_groups = model.get("conv_pos_groups", int, 16)
    depth = model.get("pos_conv_depth", int, 1)
    if depth > 1:
        return ConvPositionConfig(
            kind="stack",
            kernel_size=max(MIN_STACKED_KERNEL, kernel_size // depth),
            num_groups=num_groups,
            depth=depth,
        )
    has_batch_norm = model.get("conv_pos_batch_norm", bool, False)
    return ConvPositionConfig(
        kind="batch_norm" if has_batch_norm else "weight_norm",
        kernel_size=kernel_size,
        num_groups=num_groups,
    )


def _transformer(model: Options) -> TransformerConfig:
    return TransformerConfig(
        hidden_size=model.get("encoder_embed_dim", int, 768),
        num_layers=model.get("encoder_layers", int, 12),
        num_heads=model.get("encoder_attention_heads", int, 12),
        ffn_size=model.get("encoder_ffn_embed_dim", int, 3072),
        activation=ACTIVATIONS[model.choice("activation_fn", tuple(ACTIVATIONS), "gelu")],
        pre_layer_norm=model.get("layer_norm_first", bool, False),
        positions=_positions(model),
        dropout=model.get("dropout", float, 0.1),
        attention_dropout=model.get("attention_dropout", float, 0.1),
        activation_dropout=model.get("activation_dropout", float, 0.0),
        layer_drop=model.get("encoder_layerdrop", float, 0.0),
    )
