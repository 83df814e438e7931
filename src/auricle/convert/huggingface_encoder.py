"""Encoders of the wav2vec 2.0 kind in the names and options that Hugging Face gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from auricle.convert import huggingface
from auricle.convert.converted import Converted, build_config, state_dict
from auricle.convert.keymap import KeyMap
from auricle.convert.options import Options
from auricle.geometry import SAMPLE_RATE
from auricle.models.wav2vec2_encoder import WaveformTransformerConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.relative_positions import RelativePositionConfig
from auricle.nn.waveform_activations import WaveformActivation
from auricle.nn.waveform_extractor import PUBLISHED_LAYERS, ExtractorConfig
from auricle.nn.waveform_transformer import TransformerConfig

NORMALIZE_EPS = 1e-7
"""What `Wav2Vec2FeatureExtractor` adds to the variance."""

ACTIVATIONS: dict[str, WaveformActivation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
    "tanh": "tanh",
}
EXTRACTOR_KEYS = (
    ("feature_extractor.conv_layers.{i}.conv.{rest}", "extractor.convs.{i}.{rest}"),
    ("feature_extractor.conv_layers.{i}.layer_norm.{rest}", "extractor.norms.{i}.{rest}"),
    ("feature_projection.layer_norm.{rest}", "projection_norm.{rest}"),
    ("feature_projection.projection.{rest}", "projection.{rest}"),
)
STACK_KEY = "encoder.pos_conv_embed.layers.{i}.conv.{rest}"
"""Of data2vec's positions, which are several convolutions."""

POSITION_KEYS = (
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
    (STACK_KEY, "transformer.positions.convs.{i}.{rest}"),
)
_ATTENTION = "encoder.layers.{i}.attention."
_OUR_ATTENTION = "transformer.layers.{i}.attention."
LAYER_KEYS = (
    ("encoder.layer_norm.{rest}", "transformer.norm.{rest}"),
    ("encoder.layers.0.attention.rel_attn_embed.{rest}", "transformer.relative_bias.table.{rest}"),
    (f"{_ATTENTION}q_proj.{{rest}}", f"{_OUR_ATTENTION}query.{{rest}}"),
    (f"{_ATTENTION}k_proj.{{rest}}", f"{_OUR_ATTENTION}key.{{rest}}"),
    (f"{_ATTENTION}v_proj.{{rest}}", f"{_OUR_ATTENTION}value.{{rest}}"),
    (f"{_ATTENTION}out_proj.{{rest}}", f"{_OUR_ATTENTION}out.{{rest}}"),
    (f"{_ATTENTION}gru_rel_pos_linear.{{rest}}", f"{_OUR_ATTENTION}gate.{{rest}}"),
    (f"{_ATTENTION}gru_rel_pos_const", f"{_OUR_ATTENTION}gate_scale"),
    ("encoder.layers.{i}.layer_norm.{rest}", "transformer.layers.{i}.attention_norm.{rest}"),
    (
        "encoder.layers.{i}.feed_forward.intermediate_dense.{rest}",
        "transformer.layers.{i}.ffn_in.{rest}",
    ),
    (
        "encoder.layers.{i}.feed_forward.output_dense.{rest}",
        "transformer.layers.{i}.ffn_out.{rest}",
    ),
    ("encoder.layers.{i}.final_layer_norm.{rest}", "transformer.layers.{i}.ffn_norm.{rest}"),
)
MASK_KEY = "masked_spec_embed"
"""What stands for a masked frame in training."""

HEAD_KEYS = (
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
"""Heads of the models for pretraining, CTC, classification and speaker verification."""

KEYS = KeyMap((*EXTRACTOR_KEYS, *POSITION_KEYS, *LAYER_KEYS), pretraining=(MASK_KEY, *HEAD_KEYS))

ADAPTER_REASON = "adapters behind or inside the encoder are not implemented"


def convert(payload: Mapping[str, Any], config_type: type[WaveformTransformerConfig]) -> Converted:
    """Config, of the family's own `config_type`, and weights of a Hugging Face model.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    options = Options(payload[huggingface.CONFIG], huggingface.CONFIG_FILE)
    preprocessor = Options(payload[huggingface.PREPROCESSOR], huggingface.PREPROCESSOR_FILE)
    options.demand("add_adapter", False, ADAPTER_REASON)
    if "adapter_attn_dim" in options:
        raise options.error(f"has adapter_attn_dim: {ADAPTER_REASON}")
    preprocessor.demand("sampling_rate", SAMPLE_RATE, "encoders read audio at that rate in Hz")
    config = build_config(
        lambda: config_type(
            normalize=preprocessor.get("do_normalize", bool, True),
            normalize_eps=NORMALIZE_EPS,
            extractor=_extractor(options),
            projection_norm=_has_projection_norm(options),
            projection_dropout=options.get("feat_proj_dropout", float, 0.0),
            transformer=_transformer(options),
        )
    )
    weights = state_dict(payload[huggingface.WEIGHTS], "the file of weights")
    return Converted(config, weights, KEYS)


def _is(kind: str, options: Options) -> bool:
    return options.require("model_type", str) == kind


def _has_projection_norm(options: Options) -> bool:
    # The other models have the norm, whatever the option says.
    return not _is("hubert", options) or options.get("feat_proj_layer_norm", bool, True)


def _activation(options: Options, name: str) -> WaveformActivation:
    return ACTIVATIONS[options.choice(name, tuple(ACTIVATIONS), "gelu")]


def _extractor(options: Options) -> ExtractorConfig:
    columns = [
        options.get(name, list[int], [layer[column] for layer in PUBLISHED_LAYERS])
        for column, name in enumerate(("conv_dim", "conv_kernel", "conv_stride"))
    ]
    if len({len(column) for column in columns}) > 1:
        raise options.error(
            "must list as many conv_dim as conv_kernel and conv_stride, but lists "
            + ", ".join(str(len(column)) for column in columns)
        )
    norm: Literal["group", "layer"] = "layer"
    if not _is("data2vec-audio", options):
        norm = options.choice("feat_extract_norm", ("group", "layer"), "group")
    return ExtractorConfig(
        layers=tuple(zip(*columns, strict=True)),
        norm=norm,
        bias=options.get("conv_bias", bool, False),
        activation=_activation(options, "feat_extract_activation"),
    )


def _positions(options: Options) -> ConvPositionConfig:
    num_groups = options.get("num_conv_pos_embedding_groups", int, 16)
    if _is("data2vec-audio", options):
        return ConvPositionConfig(
            kind="stack",
            kernel_size=options.get("conv_pos_kernel_size", int, 19),
            num_groups=num_groups,
            depth=options.get("num_conv_pos_embeddings", int, 5),
        )
    has_batch_norm = _is("hubert", options) and options.get("conv_pos_batch_norm", bool, False)
    return ConvPositionConfig(
        kind="batch_norm" if has_batch_norm else "weight_norm",
        kernel_size=options.get("num_conv_pos_embeddings", int, 128),
        num_groups=num_groups,
    )


def _transformer(options: Options) -> TransformerConfig:
    relative_positions = None
    if _is("wavlm", options):
        relative_positions = RelativePositionConfig(
            num_buckets=options.get("num_buckets", int, 320),
            max_distance=options.get("max_bucket_distance", int, 800),
        )
    return TransformerConfig(
        hidden_size=options.get("hidden_size", int, 768),
        num_layers=options.get("num_hidden_layers", int, 12),
        num_heads=options.get("num_attention_heads", int, 12),
        ffn_size=options.get("intermediate_size", int, 3072),
        activation=_activation(options, "hidden_act"),
        # data2vec's layers have their norms behind them, whatever the option says.
        pre_layer_norm=not _is("data2vec-audio", options)
        and options.get("do_stable_layer_norm", bool, False),
        layer_norm_eps=options.get("layer_norm_eps", float, 1e-5),
        positions=_positions(options),
        relative_positions=relative_positions,
        dropout=options.get("hidden_dropout", float, 0.1),
        attention_dropout=options.get("attention_dropout", float, 0.1),
        activation_dropout=options.get("activation_dropout", float, 0.1),
        layer_drop=options.get("layerdrop", float, 0.1),
    )
