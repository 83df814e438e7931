"""Formats `fairseq2` and `torchaudio`: state dicts without options, whose shapes give the config.

Shapes and names do not say everything. The number of heads, the strides of the convolutions and,
in torchaudio's names, the order of norm and branch are those of the published models of that
width; for another width they have to be given.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from torch import Tensor

from auricle.catalogue.family import Family
from auricle.checkpoints.fairseq import parse_layers
from auricle.checkpoints.keymap import Converted, KeyMap, has_part, unwrapped
from auricle.checkpoints.state_dicts import weights_in
from auricle.checkpoints.waveform_transformer import (
    FAIRSEQ_EPS,
    HUGGINGFACE_KEYS,
    Table,
)
from auricle.errors import CheckpointError
from auricle.models.definition import Config
from auricle.models.waveform_transformer import WaveformTransformerConfig
from auricle.nn.waveform_extractor import PUBLISHED_LAYERS

Shape = tuple[int, ...]

FAIRSEQ2 = "fairseq2"
TORCHAUDIO = "torchaudio"

HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16, 2048: 16}
"""Attention heads of the published models by width."""

FAIRSEQ2_HEADS = 16
"""Attention heads of omniASR, whatever its width."""

_FRONTEND = "encoder_frontend."
_LAYER = "transformer.layers.{i}."
_POSITIONS = "transformer.positions.convs.0."
FAIRSEQ2_KEYS: Table = (
    (f"{_FRONTEND}feature_extractor.layers.{{i}}.conv.{{rest}}", "extractor.convs.{i}.{rest}"),
    (
        f"{_FRONTEND}feature_extractor.layers.{{i}}.layer_norm.{{rest}}",
        "extractor.norms.{i}.{rest}",
    ),
    (
        f"{_FRONTEND}feature_extractor.layers.{{i}}.group_norm.{{rest}}",
        "extractor.norms.{i}.{rest}",
    ),
    (f"{_FRONTEND}post_extract_layer_norm.{{rest}}", "projection_norm.{rest}"),
    (f"{_FRONTEND}model_dim_proj.{{rest}}", "projection.{rest}"),
    (
        f"{_FRONTEND}pos_encoder.conv.parametrizations.weight.original0",
        "transformer.positions.convs.0.weight_g",
    ),
    (
        f"{_FRONTEND}pos_encoder.conv.parametrizations.weight.original1",
        "transformer.positions.convs.0.weight_v",
    ),
    (f"{_FRONTEND}pos_encoder.conv.{{rest}}", "transformer.positions.convs.0.{rest}"),
    ("encoder.layer_norm.{rest}", "transformer.norm.{rest}"),
    (f"{_FRONTEND}layer_norm.{{rest}}", "transformer.norm.{rest}"),
    ("encoder.layers.{i}.self_attn.q_proj.{rest}", f"{_LAYER}attention.query.{{rest}}"),
    ("encoder.layers.{i}.self_attn.k_proj.{rest}", f"{_LAYER}attention.key.{{rest}}"),
    ("encoder.layers.{i}.self_attn.v_proj.{rest}", f"{_LAYER}attention.value.{{rest}}"),
    ("encoder.layers.{i}.self_attn.output_proj.{rest}", f"{_LAYER}attention.out.{{rest}}"),
    ("encoder.layers.{i}.self_attn_layer_norm.{rest}", f"{_LAYER}attention_norm.{{rest}}"),
    ("encoder.layers.{i}.ffn.inner_proj.{rest}", f"{_LAYER}ffn_in.{{rest}}"),
    ("encoder.layers.{i}.ffn.output_proj.{rest}", f"{_LAYER}ffn_out.{{rest}}"),
    ("encoder.layers.{i}.ffn_layer_norm.{rest}", f"{_LAYER}ffn_norm.{{rest}}"),
)
FAIRSEQ2_UNUSED = (
    "masker.{rest}",
    "quantizer.{rest}",
    "final_proj.{rest}",
    "final_target_proj.{rest}",
)

TORCHAUDIO_KEYS: Table = tuple(
    (
        theirs.replace("encoder.", "encoder.transformer.", 1)
        if theirs.startswith("encoder.")
        else theirs.replace("feature_projection.", "encoder.feature_projection."),
        ours,
    )
    for theirs, ours in HUGGINGFACE_KEYS
)
"""Names of transformers, with the Transformer one module deeper."""

TORCHAUDIO_UNUSED = ("aux.{rest}", "mask_generator.{rest}", "logit_generator.{rest}")

PACKED = re.compile(r"(.*\.attention)\.attention\.in_proj_(weight|bias)")
"""Projections of queries, keys and values, one above the other, in torchaudio's WavLM."""

BIAS_TABLE = "transformer.relative_bias.table.weight"
"""WavLM's bias of attention scores (buckets, heads)."""

MAX_DISTANCE = 800
"""Distance of the last bucket in all published WavLM."""

ESPNET_PART = "hubert_pretrain_model"
"""Attribute of ESPnet's encoder that is torchaudio's model; its waveforms are not normalised."""


SYNONYMS = {
    "normalize": "normalize",
    "do_normalize": "normalize",
    "extractor_conv_layer_config": "extractor.layers",
    "conv_feature_layers": "extractor.layers",
    "num_heads": "transformer.num_heads",
    "encoder_num_heads": "transformer.num_heads",
    "encoder_attention_heads": "transformer.num_heads",
    "num_attention_heads": "transformer.num_heads",
    "pre_layer_norm": "transformer.pre_layer_norm",
    "encoder_layer_norm_first": "transformer.pre_layer_norm",
    "layer_norm_first": "transformer.pre_layer_norm",
    "do_stable_layer_norm": "transformer.pre_layer_norm",
    "encoder_max_distance": "transformer.relative_positions.max_distance",
}
"""Names of options that shapes do not give, in torchaudio, fairseq and transformers."""

WITHOUT_EFFECT = (
    "encoder_",
    "extractor_",
    "aux_",
    "mask_",
    "no_mask_",
    "skip_",
    "num_classes",
    "final_dim",
    "feature_grad_mult",
)
"""Beginnings of torchaudio's other options: shapes give them, or training alone has them."""

NEEDED = ("transformer.num_heads", "transformer.pre_layer_norm", "extractor.layers")
"""Fields that neither shapes nor names give; strides are part of the last."""

UNTOLD = ("normalize", *NEEDED[:2], "transformer.relative_positions.max_distance")
"""Fields that the name of a published model gives."""

PUBLISHED = "published"
"""Key of a payload for the config of the model that was named."""

ESPNET_SECTION = "encoder_conf"
"""The encoder's options in the configuration of ESPnet."""


@dataclasses.dataclass(frozen=True)
class Names:
    """The names that a library gives to the weights of a wav2vec 2.0.

    Attributes:
        name: Name of the format.
        keymap: Its names and ours.
        anchor: A name that every such model has, and no model of another library.
    """

    name: str
    keymap: KeyMap
    anchor: str

    def match(self, content: Mapping[str, Any]) -> bool:
        """Return whether a checkpoint holds a state dict with these names."""
        return bool(self.prefixes(map(unwrapped, weights_in(content))))

    def prefixes(self, keys: Iterable[str]) -> list[str]:
        """The prefixes of the models that have these names."""
        end = f".{self.anchor}"
        return [key.removesuffix(self.anchor) for key in keys if f".{key}".endswith(end)]

    def families(self, payload: Mapping[str, Any]) -> tuple[str, ...]:
        """The families that have these names, the likeliest first."""
        if self.name == FAIRSEQ2:
            return ("omniasr",)
        if has_part(payload["weights"], "attention", "rel_attn_embed"):
            return ("wavlm",)
        return ("hubert", "wav2vec2")

    def convert(self, payload: Mapping[str, Any], family: Family) -> Converted:
        """Config and weights of a state dict.

        Args:
            payload: `weights`, and in `config` options that shapes do not give: parts of the
                family's config, or options of the authors' library. The config of the model that
                was named may be under `PUBLISHED`: it counts for weights of the same width.
            family: The family.

        Raises:
            CheckpointError: Neither shapes nor options nor published models give an option, or it
                holds encoders of several sizes.
        """
        renames = (*family.formats[self.name].keys, *self.keymap.renames)
        keymap = KeyMap(renames, self.keymap.pretraining)
        weights = dict(unpacked(payload["weights"]))
        shapes = {unwrapped(key): tuple(weight.shape) for key, weight in weights.items()}
        prefixes = self.prefixes(shapes)
        given = dict(_given(family.config_type(), payload["config"]))
        first, *others = (
            _built(
                family.config_type(),
                _found(_Shapes(keymap, prefix, shapes), payload.get(PUBLISHED), given),
            )
            for prefix in prefixes
        )
        if any(other != first for other in others):
            raise CheckpointError(
                "the checkpoint holds encoders of several sizes, under "
                f"{', '.join(repr(prefix.rstrip('.')) for prefix in prefixes)}; save the weights "
                "of the one you want in a file of their own"
            )
        return Converted(first, weights, keymap)


NAMES = {
    names.name: names
    for names in (
        Names(
            FAIRSEQ2,
            KeyMap(FAIRSEQ2_KEYS, FAIRSEQ2_UNUSED),
            f"{_FRONTEND}feature_extractor.layers.0.conv.weight",
        ),
        Names(
            TORCHAUDIO,
            KeyMap(TORCHAUDIO_KEYS, TORCHAUDIO_UNUSED),
            "encoder.feature_projection.projection.weight",
        ),
    )
}


def unpacked(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The weights, with packed projections as three."""
    for key, weight in weights.items():
        packed = PACKED.fullmatch(key)
        if packed is None or weight.ndim == 0:
            yield key, weight
            continue
        for name, part in zip("qkv", weight.chunk(3), strict=False):
            yield f"{packed[1]}.{name}_proj.{packed[2]}", part


@dataclasses.dataclass(frozen=True)
class _Shapes:
    """Shapes of the weights under a prefix, by our names."""

    keymap: KeyMap
    prefix: str
    shapes: Mapping[str, Shape]

    def get(self, name: str) -> Shape | None:
        """The shape of a weight; None where there is no such weight."""
        for original in self.keymap.originals(name):
            if self.prefix + original in self.shapes:
                return self.shapes[self.prefix + original]
        return None

    def has(self, name: str) -> bool:
        """Return whether there is a weight of that name."""
        return self.get(name) is not None

    def require(self, name: str, num_dims: int) -> Shape:
        """The shape of a weight of that many dimensions."""
        shape = self.get(name)
        if shape is None or len(shape) != num_dims or not all(shape):
            found = "is missing" if shape is None else f"is {'x'.join(map(str, shape))}"
            raise CheckpointError(
                f"{self.prefix}{self.keymap.original(name)} {found}, expected a weight of "
                f"{num_dims} dimensions: the configuration is read from it"
            )
        return shape

    def count(self, name: str) -> int:
        """The number of modules with a weight of that name, `{}` for their place."""
        count = 0
        while self.has(name.format(count)):
            count += 1
        return count


def _found(
    shapes: _Shapes, published: WaveformTransformerConfig | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a state dict's config by dotted name, with those `given` before those found."""
    convs = [
        shapes.require(f"extractor.convs.{index}.weight", 3)
        for index in range(shapes.count("extractor.convs.{}.weight"))
    ]
    is_layer_norm = shapes.count("extractor.norms.{}.weight") == len(convs)
    has_weight_norm = shapes.has(f"{_POSITIONS}weight_v")
    kernel = shapes.require(f"{_POSITIONS}{'weight_v' if has_weight_norm else 'weight'}", 3)
    width = kernel[0]
    found: dict[str, Any] = {
        "normalize": is_layer_norm and ESPNET_PART not in shapes.prefix.split("."),
        "normalize_eps": FAIRSEQ_EPS,
        "extractor.norm": "layer" if is_layer_norm else "group",
        "extractor.bias": shapes.has("extractor.convs.0.bias"),
        "projection_norm": shapes.has("projection_norm.weight"),
        "projection": shapes.has("projection.weight"),
        "transformer.hidden_size": width,
        "transformer.num_layers": shapes.count("transformer.layers.{}.ffn_in.weight"),
        "transformer.ffn_size": shapes.require("transformer.layers.0.ffn_in.weight", 2)[0],
        "transformer.positions.kind": "weight_norm" if has_weight_norm else "plain",
        "transformer.positions.kernel_size": kernel[2],
        "transformer.positions.num_groups": max(width // kernel[1], 1),
    }
    if len(convs) == len(PUBLISHED_LAYERS):
        strides = (stride for _, _, stride in PUBLISHED_LAYERS)
        found["extractor.layers"] = [
            (channels, size, stride)
            for (channels, _, size), stride in zip(convs, strides, strict=True)
        ]
    if f"{shapes.prefix}{NAMES[FAIRSEQ2].anchor}" in shapes.shapes:
        is_pre_norm = f"{shapes.prefix}encoder.layer_norm.weight" in shapes.shapes
        found["transformer.pre_layer_norm"] = is_pre_norm
        found["transformer.num_heads"] = FAIRSEQ2_HEADS
    elif width in HEADS:
        found["transformer.pre_layer_norm"] = is_layer_norm  # as in all published models
        found["transformer.num_heads"] = HEADS[width]
    if shapes.has(BIAS_TABLE):
        num_buckets, num_heads = shapes.require(BIAS_TABLE, 2)
        found["transformer.num_heads"] = num_heads
        found["transformer.relative_positions.num_buckets"] = num_buckets
        found["transformer.relative_positions.max_distance"] = MAX_DISTANCE
    if published is not None and published.transformer.hidden_size == width:
        values = dict(_flat("", msgspec.to_builtins(published)))
        found |= {name: values[name] for name in UNTOLD if name in values}
    found |= given
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise CheckpointError(
            f"the checkpoint is a bare state dict, {width} wide with {len(convs)} convolutions. "
            f"Nothing in it says {' and '.join(missing)}, and no published model has those sizes; "
            "pass config= (on the command line --config JSON), as in "
            'config={"transformer": {"num_heads": 8, "pre_layer_norm": False}}'
        )
    return found


def _given(config_type: type[Config], options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The given options by the dotted name of the field."""
    section = options.get(ESPNET_SECTION, options)
    if not isinstance(section, Mapping):
        raise CheckpointError(f"{ESPNET_SECTION} must be a mapping of options, but is {section!r}")
    for name, value in section.items():
        if name in SYNONYMS:
            is_text = SYNONYMS[name] == "extractor.layers" and isinstance(value, str)
            yield SYNONYMS[name], parse_layers(value) if is_text else value
        elif name in config_type.__struct_fields__:
            yield from _flat(name, value)
        elif section is options and not name.startswith(WITHOUT_EFFECT):
            raise CheckpointError(
                f"the option {name} is not known; the shapes of a bare state dict give all but "
                f"{', '.join(NEEDED)} and normalize"
            )


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _flat(f"{name}.{inner}".lstrip("."), item)
    else:
        yield name, value


def _built(config_type: type[Config], values: Mapping[str, Any]) -> Config:
    """The config of values by dotted name."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    try:
        return msgspec.convert(nested, config_type)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"the options of a bare state dict do not hold: {error}") from error
