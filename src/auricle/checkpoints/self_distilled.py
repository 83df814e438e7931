"""Checkpoints of data2vec 2.0 (fairseq's), SpidR and DinoSR (`spidr`), Spin (`spin`, `rspin`)."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from auricle.catalogue.family import FAMILIES, Family, FamilyFormat, Field
from auricle.checkpoints import fairseq
from auricle.checkpoints.keymap import Converted, KeyMap, has_part
from auricle.checkpoints.options import Options, build_config, check_demands, read_config
from auricle.checkpoints.state_dicts import state_dict, weights_in
from auricle.checkpoints.waveform_transformer import FAIRSEQ_EPS, MIN_STACKED_KERNEL, fairseq_keys
from auricle.errors import CheckpointError
from auricle.models.self_distilled import Data2Vec2Config, SpinConfig
from auricle.nn.attention import AlibiConfig, RelativePositionConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import PUBLISHED_LAYERS, ExtractorConfig

logger = logging.getLogger(__name__)

SPIDR_SPEC = "spidr"
SPIN_SPEC = "spin"
"""Names of formats in the families' data files; `rspin` has the table of `spin`."""

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

CODEBOOK_KEY = "loss_module.codebook.weight"
FIRST_CONV_KEY = "feature_extractor.conv_layers.0.0.weight"
BASE_HEAD_WIDTH = 64
"""Of the heads of every HuBERT Base; no shape tells it."""

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


def matches_spidr(content: object) -> bool:
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
    if not payload["config"]:
        logger.warning(
            "a checkpoint of SpidR's authors without config.json beside it is read as %s with "
            "their defaults; family= or config= say otherwise",
            family.title,
        )
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


def matches_spin(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `spin`, Lightning's of Spin's training."""
    weights = content.get("state_dict")
    has_options = isinstance(content.get("hyper_parameters"), Mapping)
    return has_options and isinstance(weights, Mapping) and has_part(weights, "loss_module")


def matches_rspin(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `rspin`."""
    weights, cfg = content.get("state_dict"), content.get("cfg")
    has_options = isinstance(cfg, Mapping) and "codebook_dim" in cfg
    return has_options and isinstance(weights, Mapping) and has_part(weights, "pred_head")


def convert_spin(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a checkpoint of Spin or R-Spin.

    Neither says which HuBERT or WavLM was trained further: shapes do, and what all published Base
    models have in common.

    Raises:
        CheckpointError: A weight is missing, or an option asks for what is not implemented.
    """
    spec = family.formats[SPIN_SPEC]
    weights = state_dict(payload["state_dict"], "state_dict")
    options = Options(payload.get("hyper_parameters", {}), "hyper_parameters")
    check_demands(spec.demands, options)
    codebook = CODEBOOK_KEY if has_part(weights, "loss_module") else "codebook.weight"
    top, body = (_Shapes.under(weights, key) for key in (codebook, FIRST_CONV_KEY))
    encoder = options.section("model").section("encoder")
    config = build_config(lambda: _spin_config(top, body, codebook, encoder))
    return Converted(config, weights, spin_keys(spec, config, body.root.removeprefix(top.root)))


def spin_keys(spec: FamilyFormat, config: SpinConfig, place: str = "encoder.model.") -> KeyMap:
    """The table of keys; those of the HuBERT or WavLM are in `place`."""
    wavlm = FAMILIES["wavlm"].formats[fairseq.WAVLM_SPEC]
    body = fairseq_keys(config, wavlm)
    renames = [(f"{place}{theirs}", ours) for theirs, ours in body.renames]
    unused = [f"{place}{theirs}" for theirs in body.pretraining]
    return KeyMap((*spec.keys, *renames), (*spec.unused, *unused))


def _spin_config(top: _Shapes, body: _Shapes, codebook: str, encoder: Options) -> SpinConfig:
    num_heads = top.count("pred_head.layers.{}.weight")
    heads = [f"pred_head.layers.{index}.weight" for index in range(num_heads)]
    transformer = _transformer(body)
    return SpinConfig(
        extractor=ExtractorConfig(layers=_convolutions(body)),
        projection="post_extract_proj.weight" in body,
        transformer=transformer,
        units_layer=encoder.get("use_layer", int, transformer.num_layers),
        head_sizes=tuple(top[name][0] for name in heads or ["pred_head.weight"]),
        codebook_size=top[codebook][0],
    )


def _convolutions(shapes: _Shapes) -> tuple[tuple[int, int, int], ...]:
    """Convolutions of an extractor with the published kernels, whose strides no shape tells."""
    num_layers = shapes.count("feature_extractor.conv_layers.{}.0.weight")
    found = [
        shapes[f"feature_extractor.conv_layers.{index}.0.weight"] for index in range(num_layers)
    ]
    kernels = [kernel for _, kernel, _ in PUBLISHED_LAYERS]
    if [shape[-1] for shape in found] != kernels:
        raise CheckpointError(
            f"the extractor's kernels are {[shape[-1] for shape in found]}, expected {kernels}: "
            "the file does not say the strides of others"
        )
    strides = [stride for _, _, stride in PUBLISHED_LAYERS]
    return tuple((shape[0], shape[-1], one) for shape, one in zip(found, strides, strict=True))


def _transformer(shapes: _Shapes) -> TransformerConfig:
    """The Transformer of a HuBERT or WavLM Base of these shapes."""
    layer = "encoder.layers.0."
    (width,) = shapes["encoder.layer_norm.weight"]
    _, group, kernel = shapes["encoder.pos_conv.0.weight_v"]
    table = f"{layer}self_attn.relative_attention_bias.weight"
    is_wavlm = table in shapes
    if not is_wavlm and width % BASE_HEAD_WIDTH:
        raise ValueError(
            f"a HuBERT must be a multiple of {BASE_HEAD_WIDTH} wide, which is the width of its "
            f"heads, but is {width}"
        )
    return TransformerConfig(
        hidden_size=width,
        num_layers=shapes.count("encoder.layers.{}.fc1.weight"),
        num_heads=shapes[table][1] if is_wavlm else width // BASE_HEAD_WIDTH,
        ffn_size=shapes[f"{layer}fc1.weight"][0],
        positions=ConvPositionConfig(kernel_size=kernel, num_groups=width // max(group, 1)),
        relative_positions=RelativePositionConfig(num_buckets=shapes[table][0])
        if is_wavlm
        else None,
    )


class _Shapes(dict[str, tuple[int, ...]]):
    """Shapes of weights by name, less the `root` that their keys begin with."""

    root = ""

    @classmethod
    def under(cls, weights: Mapping[str, Tensor], name: str) -> _Shapes:
        """Shapes under the root of the key that ends in `name`."""
        ends = [key for key in weights if f".{key}".endswith(f".{name}")]
        if not ends:
            raise CheckpointError(f"the weights lack {name}")
        root = min(ends, key=len).removesuffix(name)
        shapes = cls(
            (key.removeprefix(root), tuple(weight.shape))
            for key, weight in weights.items()
            if key.startswith(root)
        )
        shapes.root = root
        return shapes

    def __missing__(self, name: str) -> tuple[int, ...]:
        raise CheckpointError(f"the weights lack {self.root}{name}")

    def count(self, pattern: str) -> int:
        """The number of names that a pattern gives for 0, 1, ..., without a gap."""
        return next(number for number in itertools.count() if pattern.format(number) not in self)


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
