"""Checkpoints of data2vec 2.0 in fairseq's formats, of SpidR and DinoSR in format `spidr`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from auricle.catalogue.family import Family, FamilyFormat, Field
from auricle.checkpoints import fairseq
from auricle.checkpoints.keymap import Converted, KeyMap, has_part, state_dict, weights_in
from auricle.checkpoints.options import Options, check_demands, read_config
from auricle.checkpoints.waveform_transformer import FAIRSEQ_EPS, MIN_STACKED_KERNEL
from auricle.models.self_distilled import Data2Vec2Config
from auricle.nn.attention import AlibiConfig
from auricle.nn.waveform_extractor import PUBLISHED_LAYERS

SPIDR_SPEC = "spidr"
"""Name of the format in the families' data files."""

AUDIO = "modality_encoders.AUDIO"
PRENET_BLOCK = f"{AUDIO}.context_encoder.blocks"
POSITIONS = f"{AUDIO}.relative_positional_encoder"
SCALE = f"{AUDIO}.alibi_scale"
SCALE_AXES = 5
"""Axes of the scales of biases of distance; files of the first versions lack the one of layers."""

BLOCK, LAYER = "{block}", "{layer}"
"""Places of a block and of the layer that it becomes, in the table of keys."""

SPIDR_FIELDS = {
    "extractor.norm": Field(
        option="extractor_mode",
        default="layer_norm",
        values={"layer_norm": "layer", "group_norm": "group"},
    ),
    "extractor.bias": Field(option="extractor_conv_bias", default=False),
    "projection_dropout": Field(option="encoder_projection_dropout", default=0.0),
    "transformer.hidden_size": Field(option="encoder_embed_dim", default=768),
    "transformer.num_layers": Field(option="encoder_num_layers", default=12),
    "transformer.num_heads": Field(option="encoder_num_heads", default=12),
    "transformer.ffn_size": Field(option="encoder_ff_interm_features", default=3072),
    "transformer.pre_layer_norm": Field(option="encoder_layer_norm_first", default=False),
    "transformer.qkv_bias": Field(option="encoder_qkv_bias", default=False),
    "transformer.positions.kind": Field(value="stack"),
    "transformer.positions.num_groups": Field(option="encoder_pos_conv_groups", default=16),
    "transformer.positions.depth": Field(option="encoder_pos_conv_depth", default=5),
    "transformer.dropout": Field(option="encoder_dropout", default=0.1),
    "transformer.attention_dropout": Field(option="encoder_attention_dropout", default=0.1),
    "transformer.activation_dropout": Field(option="encoder_ff_interm_dropout", default=0.0),
    "num_codebooks": Field(option="num_codebooks", default=8),
    "codebook_size": Field(option="codebook_size", default=256),
}
"""Fields of the config in section `model` of SpidR's `config.json`."""

SPIDR_LAYER_DROP = {"spidr": 0.0, "dinosr": 0.05}
"""Defaults of `encoder_layer_drop`, the one option in which those of the two differ."""

SPIDR_TRAINING = ("ema_timescale", "ema_threshold")
"""Options that SpidR alone has."""

SPIDR_OPTIONS = (
    *(field.option for field in SPIDR_FIELDS.values() if field.option),
    "extractor_conv_layer_config",
    "encoder_pos_conv_kernel",
    "encoder_layer_drop",
    "codebook_decay",
    "ema_start_decay",
    "ema_final_decay",
    "ema_final_step",
    "ema_exclude_layers",
    "freeze_step",
    *SPIDR_TRAINING,
)

_LAYER = "transformer.layers.{i}."
SPIDR_KEYS = (
    ("feature_extractor.conv_layers.{i}.conv.{rest}", "extractor.convs.{i}.{rest}"),
    ("feature_extractor.conv_layers.{i}.layer_norm.{rest}", "extractor.norms.{i}.{rest}"),
    ("feature_projection.layer_norm.{rest}", "projection_norm.{rest}"),
    ("feature_projection.projection.{rest}", "projection.{rest}"),
    ("student.pos_conv_embed.convs.{i}.{rest}", "transformer.positions.convs.{i}.{rest}"),
    ("student.layer_norm.{rest}", "transformer.norm.{rest}"),
    ("student.layers.{i}.attention.qkv.{rest}", _LAYER + "attention.{query,key,value}.{rest}"),
    ("student.layers.{i}.attention.proj.{rest}", _LAYER + "attention.out.{rest}"),
    ("student.layers.{i}.layer_norm.{rest}", _LAYER + "attention_norm.{rest}"),
    ("student.layers.{i}.feed_forward.intermediate_dense.{rest}", _LAYER + "ffn_in.{rest}"),
    ("student.layers.{i}.feed_forward.output_dense.{rest}", _LAYER + "ffn_out.{rest}"),
    ("student.layers.{i}.final_layer_norm.{rest}", _LAYER + "ffn_norm.{rest}"),
    ("heads.{i}.0.{rest}", "heads.{i}.{rest}"),
)
SPIDR_UNUSED = ("teacher.{rest}", "codebooks.{rest}", "mask_embedding", "current_step")


def convert_data2vec2(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a fairseq checkpoint of data2vec 2.0.

    Raises:
        CheckpointError: It is of another modality, or an option asks for what is not implemented.
    """
    task, model, weights = fairseq.sections(payload)
    spec = family.formats[fairseq.SPEC]
    if not has_part(weights, *AUDIO.split(".")):
        modality = model.get("supported_modality", str, "unknown")
        raise model.error(f"is of data2vec 2.0 for the modality {modality}; expected AUDIO")
    check_demands(spec.demands, model)
    audio = model.section("modalities").section("audio")
    width = model.get("embed_dim", int, 768)
    depth = audio.get("conv_pos_depth", int, 5)
    num_prenet = audio.get("prenet_depth", int, 4)
    given: dict[str, Any] = {
        "normalize": task.get("normalize", bool, False),
        "normalize_eps": FAIRSEQ_EPS,
        "extractor.layers": PUBLISHED_LAYERS,
        "transformer.num_layers": num_prenet + model.get("depth", int, 8),
        "transformer.ffn_size": int(width * model.get("mlp_ratio", float, 4.0)),
        "transformer.positions.kernel_size": _kernel(audio.get("conv_pos_width", int, 95), depth),
        "transformer.alibi": _alibi(model, audio, weights),
    }
    if "feature_encoder_spec" in audio:
        layers = fairseq.parse_layers(audio.require("feature_encoder_spec", object))
        given["extractor.layers"] = tuple(layers)
    config = read_config(family.config_type(), spec.fields, model, given)
    assert isinstance(config, Data2Vec2Config)
    return Converted(config, with_five_axes(weights), data2vec2_keys(spec, config, num_prenet))


def data2vec2_keys(spec: FamilyFormat, config: Data2Vec2Config, num_prenet: int) -> KeyMap:
    """The table of keys; the blocks of the audio's own encoder are the first layers."""
    table = [
        # One convolution each, after a transposition that has no weights.
        (f"{POSITIONS}.{index + 1}.0.{{rest}}", f"transformer.positions.convs.{index}.{{rest}}")
        for index in range(config.transformer.positions.depth)
    ]
    table += [pair for pair in spec.keys if BLOCK not in pair[0]]
    for index in range(config.transformer.num_layers):
        is_prenet = index < num_prenet
        block = f"{PRENET_BLOCK}.{index}" if is_prenet else f"blocks.{index - num_prenet}"
        table += [
            (theirs.replace(BLOCK, block), ours.replace(LAYER, f"transformer.layers.{index}"))
            for theirs, ours in spec.keys
            if BLOCK in theirs
        ]
    return KeyMap(table, spec.unused)


def num_prenet_blocks(weights: Mapping[str, Tensor]) -> int:
    """Blocks of the audio's own encoder among weights."""
    count = 0
    while has_part(weights, *PRENET_BLOCK.split("."), str(count)):
        count += 1
    return count


def with_five_axes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose scales of biases have an axis for layers, which old files lack."""
    return {
        key: weight[None] if _is_scale(key) and weight.dim() == SCALE_AXES - 1 else weight
        for key, weight in weights.items()
    }


def matches_spidr(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `spidr`."""
    weights = weights_in(content)
    return has_part(weights, "student", "pos_conv_embed") and has_part(
        weights, "feature_extractor", "conv_layers", "0", "conv"
    )


def spidr_families(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The families that such a checkpoint may be of, the likeliest first.

    The two have the same weights; only the configuration says which it is.
    """
    config = Options(payload["config"], "the configuration")
    model = _spidr_options(payload)
    if "run" in config:
        kind = config.section("run").choice("model_type", ("dinosr", "spidr"), "dinosr")
    elif not payload["config"] or any(name in model for name in SPIDR_TRAINING):
        kind = "spidr"
    else:
        kind = "dinosr"
    return (kind, "dinosr" if kind == "spidr" else "spidr")


def convert_spidr(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a checkpoint of SpidR's authors; absent options have their defaults.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    options = _spidr_options(payload)
    options.refuse_unknown(SPIDR_OPTIONS)
    depth = options.get("encoder_pos_conv_depth", int, 5)
    given: dict[str, Any] = {
        "normalize": True,  # outside of the model, by everything that the authors compute with it
        "normalize_eps": FAIRSEQ_EPS,
        "extractor.layers": PUBLISHED_LAYERS,
        "transformer.positions.kernel_size": _kernel(
            options.get("encoder_pos_conv_kernel", int, 95), depth
        ),
        "transformer.layer_drop": options.get(
            "encoder_layer_drop", float, SPIDR_LAYER_DROP[family.stem]
        ),
    }
    if "extractor_conv_layer_config" in options:
        value = options.require("extractor_conv_layer_config", object)
        given["extractor.layers"] = tuple(fairseq.parse_layers(value))
    config = read_config(family.config_type(), SPIDR_FIELDS, options, given)
    return Converted(config, state_dict(payload["weights"], "the weights"), spidr_keys())


def spidr_keys() -> KeyMap:
    """The table of keys of the student, and of the heads that predict its teacher's clusters."""
    return KeyMap(SPIDR_KEYS, SPIDR_UNUSED)


def _spidr_options(payload: Mapping[str, Any]) -> Options:
    """The options of the model: a section of the configuration, or all of it."""
    config = Options(payload["config"], "the configuration")
    return config.section("model") if "model" in config or "run" in config else config


def _kernel(frames: int, depth: int) -> int:
    """The kernel of each of several convolutions of positions, which share so many frames."""
    return max(MIN_STACKED_KERNEL, frames // max(depth, 1))


def _is_scale(key: str) -> bool:
    return has_part([key], *SCALE.split("."))


def _alibi(model: Options, audio: Options, weights: Mapping[str, Tensor]) -> AlibiConfig | None:
    """The biases of distance that the options describe; the shape of the scales decides."""
    shapes = list(_scale_shapes(weights))
    if not audio.get("use_alibi_encoder", bool, bool(shapes)):
        return None
    num_heads = model.get("num_heads", int, 12)
    biased = audio.get("num_alibi_heads", int, num_heads)
    per_head = audio.get("learned_alibi_scale_per_head", bool, False)
    per_layer = audio.get("learned_alibi_scale_per_layer", bool, False)
    for shape in shapes:
        if len(shape) == SCALE_AXES:
            per_layer, per_head = shape[0] > 1, shape[2] > 1
    return AlibiConfig(
        num_heads=None if biased == num_heads else biased, per_head=per_head, per_layer=per_layer
    )


def _scale_shapes(weights: Mapping[str, Tensor]) -> Iterator[tuple[int, ...]]:
    for key, weight in with_five_axes(weights).items():
        if _is_scale(key) and not has_part([key], "_ema"):
            yield tuple(weight.shape)
