"""Formats `fairseq-args`, `fairseq-cfg` and `s3prl-converted`: one view of all three.

`fairseq-args` files hold model and task options together in one namespace, `fairseq-cfg` files
hold them as sections, `s3prl-converted` files are the latter with everything else left out. A
fine-tuned model nests the pretrained one: its options under `w2v_args`, its weights in `w2v_model`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from auricle.catalogue.family import FAMILIES, Family, FamilyFormat
from auricle.checkpoints.keymap import Converted, KeyMap, has_part
from auricle.checkpoints.options import Options, build_config
from auricle.checkpoints.pickle.unpickle import as_mapping
from auricle.checkpoints.state_dicts import state_dict, weights_in
from auricle.errors import CheckpointError
from auricle.info import SAMPLE_RATE
from auricle.models.wav2vec import ConvEncoderConfig, VqWav2VecConfig
from auricle.nn.conv_features import AggregatorConfig, ConvExtractorConfig
from auricle.nn.quantizer import GumbelQuantizerConfig, KmeansQuantizerConfig

SPEC = "fairseq"
"""Name of the three formats in the families' data files."""

WAVLM_SPEC = "wavlm-official"
"""Name of the format of Microsoft's own files, fairseq's keys and options, in data files."""

FINE_TUNED_PART = "w2v_model"
"""The attribute in which CTC and sequence-to-sequence models keep the pretrained one."""

QUANTIZER_TYPES = ("none", "gumbel", "kmeans")

MAX_LAYERS = 1_000
"""Far above any published list of layers; `* 10**9` must not be carried out."""

MAX_LITERAL_CHARACTERS = 4_000
"""Some ten times the longest published list of layers."""

LITERAL = re.compile(r"[0-9eE+*.,()\[\]\s-]+")
"""Characters of lists of numbers: no name and no string, so nothing that could be called."""


ENCODER_KEYS = (
    ("feature_extractor.conv_layers.{i}.0.{rest}", "extractor.layers.{i}.conv.{rest}"),
    ("feature_extractor.conv_layers.{i}.2.{rest}", "extractor.layers.{i}.norm.{rest}"),
    ("feature_aggregator.conv_layers.{i}.1.{rest}", "aggregator.layers.{i}.conv.{rest}"),
    ("feature_aggregator.conv_layers.{i}.3.{rest}", "aggregator.layers.{i}.norm.{rest}"),
    ("feature_aggregator.residual_proj.{i}.{rest}", "aggregator.layers.{i}.residual.{rest}"),
)

KMEANS_KEYS = (
    ("vector_quantizer.embedding", "quantizer.vectors"),
    ("vector_quantizer.projection.0.{rest}", "quantizer.projection.{rest}"),
    ("vector_quantizer.projection.1.{rest}", "quantizer.norm.{rest}"),
)


def matches_args(payload: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `fairseq-args`."""
    has_args = payload.get("args") is not None and isinstance(payload.get("model"), Mapping)
    return has_args and not matches_cfg(payload)


def matches_cfg(payload: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `fairseq-cfg`."""
    if payload.get("cfg") is None or not isinstance(payload.get("model"), Mapping):
        return False
    try:
        cfg = as_mapping(payload["cfg"])
    except CheckpointError:  # another layout with a `cfg` of its own kind
        return False
    return isinstance(cfg.get("model"), Mapping)


def matches_converted(payload: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `s3prl-converted`."""
    return all(payload.get(key) is not None for key in ("task_cfg", "model_cfg", "model_weight"))


def sections(payload: Mapping[str, Any]) -> tuple[Options, Options, dict[str, Tensor]]:
    """Task options, model options and weights of a checkpoint in any of the three formats.

    The options of a fine-tuned model are those of the pretrained one; all weights keep their names.

    Raises:
        CheckpointError: A section is missing or is not what it should be.
    """
    if matches_converted(payload):
        task = Options(as_mapping(payload["task_cfg"]), "task_cfg")
        model = Options(as_mapping(payload["model_cfg"]), "model_cfg")
        weights = state_dict(payload["model_weight"], "model_weight")
    else:
        weights = state_dict(payload["model"], "model")
        if matches_cfg(payload):
            cfg = Options(as_mapping(payload["cfg"]), "cfg")
            task, model = cfg.section("task"), cfg.section("model")
        else:
            task = model = Options(as_mapping(payload["args"]), "args")
    if has_part(weights, FINE_TUNED_PART):
        task, model = _pretrained_options(model)
    return task, model, weights


def families(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The family of a checkpoint in any of the three formats, as the one entry of a tuple.

    Raises:
        CheckpointError: It is none of this library's families.
    """
    task, model, weights = sections(payload)
    name = model.get("_name", str, model.get("arch", str, ""))
    names = (name, task.get("_name", str, ""))
    stem = _named(names, weights)
    if stem == "data2vec2":  # whose extractor has another name
        return (stem,)
    if not has_part(weights, "feature_extractor", "conv_layers", "0"):
        raise model.error(
            f"is of the model {name or 'without a name'}, whose weights hold no feature extractor "
            "of wav2vec's kind; expected wav2vec, vq-wav2vec, wav2vec 2.0 or HuBERT"
        )
    if has_part(weights, "feature_aggregator"):
        quantizer = model.choice("vq_type", QUANTIZER_TYPES, "none")
        return ("wav2vec",) if quantizer == "none" else ("vq_wav2vec",)
    return (stem or "wav2vec2",)


def _named(names: Sequence[str], weights: Mapping[str, Tensor]) -> str | None:
    """The family of a model's name or of parts of its keys; the longest name that fits decides."""
    fitting: list[tuple[int, str]] = []
    for family in FAMILIES.values():
        spec = family.formats.get(SPEC, FamilyFormat())
        fitting += [
            (len(start), family.stem)
            for start in spec.models
            if any(name.startswith(start) for name in names)
        ]
        fitting += [(0, family.stem) for part in spec.parts if has_part(weights, part)]
    return max(fitting, key=lambda one: one[0])[1] if fitting else None


def matches_wavlm(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `wavlm-official`, options without sections."""
    weights = content.get("model")
    return (
        isinstance(content.get("cfg"), Mapping)
        and isinstance(weights, Mapping)
        and has_part(weights_in(weights), "feature_extractor", "conv_layers", "0", "0")
    )


def wavlm_families(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The families whose options in their data files are those of the checkpoint."""
    options = Options(payload["cfg"], "cfg")
    specs = {stem: family.formats.get(WAVLM_SPEC) for stem, family in FAMILIES.items()}
    found = [
        stem
        for stem, spec in specs.items()
        if spec and all(options.get(k, type(v), type(v)()) == v for k, v in spec.options.items())
    ]
    if not found:
        raise options.error("is of no family of this library")
    return tuple(found)


def parse_layers(value: object) -> list[tuple[int, int, int]]:
    """Convolutions (dim, kernel size, stride) from a list or the text of one.

    The text is an expression of list and number literals, `+` and `*`, as in
    `[(512, 10, 5)] + [(512, 3, 2)] * 4`; it is parsed, never run.

    Raises:
        CheckpointError: It is something else, or lists more than 1,000 convolutions.
    """
    layers = _literal(value) if isinstance(value, str) else value
    if isinstance(layers, Sequence) and len(layers) <= MAX_LAYERS:
        triples = [_triple(layer) for layer in layers]
        found = [triple for triple in triples if triple is not None]
        if found and len(found) == len(triples):
            return found
    raise CheckpointError(
        f"expected 1 to {MAX_LAYERS} convolutions as a list of (dim, kernel size, stride), such "
        f"as [(512, 10, 5)] + [(512, 3, 2)] * 4, but got {_shortened(value)}"
    )


def parse_numbers(value: object) -> list[float]:
    """Numbers from a sequence, such as `(2.0, 0.5, 0.999995)`, or the text of one.

    Raises:
        CheckpointError: It is something else.
    """
    numbers = _literal(value) if isinstance(value, str) else value
    if isinstance(numbers, Sequence) and all(type(number) in (int, float) for number in numbers):
        return [float(number) for number in numbers]
    raise CheckpointError(f"expected a list of numbers, but got {_shortened(value)}")


def convert_conv_encoder(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a wav2vec or vq-wav2vec checkpoint.

    Raises:
        CheckpointError: An option or a weight section is missing or not what it should be.
    """
    task, model, weights = sections(payload)
    config_type = family.config_type()
    fields = build_config(lambda: conv_encoder_fields(payload, task, model))
    if issubclass(config_type, VqWav2VecConfig):
        fields["quantizer"] = build_config(lambda: _quantizer_config(model))
    else:
        model.demand("vq_type", "none", "a model with a quantiser is of the family vq_wav2vec")
    config = build_config(lambda: config_type(**fields))
    assert isinstance(config, ConvEncoderConfig)
    vq_dim = model.get("vq_dim", int, 0)
    if vq_dim not in (0, config.extractor.dim):
        raise model.error(
            f"must have a vq_dim of 0 or {config.extractor.dim}, the extractor's width that the "
            f"aggregator reads, but has {vq_dim}"
        )
    return Converted(config, weights, conv_encoder_keys(family, config))


def conv_encoder_keys(family: Family, config: ConvEncoderConfig) -> KeyMap:
    """The table of keys; those of the quantiser depend on its kind."""
    spec = family.formats[SPEC]
    quantizer = _quantizer_keys(config.quantizer) if isinstance(config, VqWav2VecConfig) else ()
    return KeyMap((*spec.keys, *ENCODER_KEYS, *quantizer), spec.unused)


def conv_encoder_fields(
    payload: Mapping[str, Any], task: Options, model: Options
) -> dict[str, Any]:
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
        "extractor": ConvExtractorConfig(
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


def _quantizer_config(model: Options) -> GumbelQuantizerConfig | KmeansQuantizerConfig:
    shared: dict[str, Any] = {
        "num_groups": model.get("vq_groups", int, 2),
        "num_entries": model.get("vq_vars", int, 320),
        "is_shared": model.get("combine_groups", bool, False),
    }
    if model.choice("vq_type", ("gumbel", "kmeans"), None) == "kmeans":
        return KmeansQuantizerConfig(**shared, commitment=model.get("vq_gamma", float, 0.25))
    if "vq_temp" in model:
        temperature = tuple(parse_numbers(model.require("vq_temp", object)))
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


def _pretrained_options(model: Options) -> tuple[Options, Options]:
    """Task and model options that a fine-tuned model's options keep of the pretrained one."""
    if "w2v_args" not in model:
        raise model.error(
            "is of a fine-tuned model, but lacks w2v_args, the options of the pretrained one; "
            "load the pretrained model's own checkpoint"
        )
    pretrained = model.section("w2v_args")
    if "model" in pretrained:
        return pretrained.section("task"), pretrained.section("model")
    return pretrained, pretrained


def _triple(layer: object) -> tuple[int, int, int] | None:
    if isinstance(layer, Sequence) and len(layer) == 3:
        dim, kernel, stride = layer
        if all(type(number) is int and number >= 1 for number in layer):
            return dim, kernel, stride
    return None


def _literal(text: str) -> object:
    """The value of an expression of list, tuple and number literals, `+` and `*`."""
    problem = "it is not an expression of lists and numbers"
    if len(text) <= MAX_LITERAL_CHARACTERS and LITERAL.fullmatch(text):
        try:
            return _value(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise CheckpointError(f"cannot read {_shortened(text)}: {problem}") from error
    raise CheckpointError(f"cannot read {_shortened(text)}: {problem}")


def _value(node: ast.expr) -> object:
    match node:
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_value(element) for element in elements]
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _joined(_value(left), _value(right))
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            return _repeated(_value(left), _value(right))
    raise CheckpointError(
        f"a list of numbers may hold literals, + and *, but not {type(node).__name__}"
    )


def _joined(left: object, right: object) -> list[object]:
    if not isinstance(left, list) or not isinstance(right, list):
        raise CheckpointError("+ joins two lists, but is between other things")
    _check_length(len(left) + len(right))
    return left + right


def _repeated(left: object, right: object) -> list[object]:
    items, times = (right, left) if isinstance(left, int) else (left, right)
    if not isinstance(items, list) or not isinstance(times, int):
        raise CheckpointError("* repeats a list, but is between other things")
    _check_length(len(items) * times)
    return items * times


def _check_length(length: int) -> None:
    if length > MAX_LAYERS:
        raise CheckpointError(
            f"a list of layers has {length} entries, expected {MAX_LAYERS} at most"
        )


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
