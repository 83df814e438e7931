"""Encoders of the wav2vec 2.0 kind as folders that `transformers` reads: the way back."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from auricle.catalogue.family import FAMILIES, FamilyFormat, Field
from auricle.checkpoints import huggingface
from auricle.checkpoints.waveform_transformer import (
    HUGGINGFACE_EPS,
    huggingface_fields,
    huggingface_keys,
)
from auricle.errors import AuricleError
from auricle.files.atomic import write_whole_folder
from auricle.geometry import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.models.waveform_transformer import WaveformTransformerConfig
from auricle.nn.conv_positions import WeightNormConv

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

PROJECTION = "feature_projection.projection"
PLAIN = "plain"
"""Kind of positions whose weight norm is folded in."""


def export_to_transformers(encoder: Encoder, folder: str | Path) -> None:
    """Write an encoder as a folder that `transformers` loads to the same numbers.

    The folder holds `config.json`, `preprocessor_config.json` and `model.safetensors`, of the
    bare encoder (`AutoModel.from_pretrained(folder)`) and in the type of its weights. Hidden
    states 0, 1, ... are the layers `input`, `layer_1`, ...; `last_hidden_state` is the last one,
    which hidden state -1 of pre-norm models is not since transformers 5 (it is before the norm).

    Args:
        encoder: A wav2vec 2.0, HuBERT, WavLM or data2vec audio encoder.
        folder: Where to write; it must not be there yet, or be empty.

    Raises:
        AuricleError: The encoder is of another family, or has an option that the model of
            `transformers` lacks.
        OutputError: The folder holds something, or cannot be written; nothing half-written is
            left.
    """
    config = json.dumps(exported_config(encoder), indent=2) + "\n"
    preprocessor = json.dumps(exported_preprocessor(encoder), indent=2) + "\n"
    weights = exported_weights(encoder)
    origin = dataclasses.asdict(encoder.provenance)
    # `transformers` wants to read which library's tensors these are.
    metadata = {"format": "pt", **{key: value for key, value in origin.items() if value}}

    def write(temporary: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        (temporary / huggingface.CONFIG_FILE).write_text(config, encoding="utf-8")
        (temporary / huggingface.PREPROCESSOR_FILE).write_text(preprocessor, encoding="utf-8")
        try:
            save_file(weights, temporary / huggingface.WEIGHT_FILES[0], metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_whole_folder(Path(folder), write)
    read, spec = _exportable(encoder)
    eps = spec.fields.get("normalize_eps", Field(value=HUGGINGFACE_EPS)).value
    if read.normalize and read.normalize_eps != eps:
        logger.warning(
            "transformers adds %g to the variance of a waveform where %s adds %g: quiet recordings "
            "come out slightly different there",
            eps,
            encoder.info.name,
            read.normalize_eps,
        )


def exported_config(encoder: Encoder) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        AuricleError: The encoder is of a family, or has an option, that cannot be exported.
    """
    config, spec = _exportable(encoder)
    layers = config.extractor.layers
    options: dict[str, Any] = {
        "architectures": [spec.architecture],
        **spec.options,
        "torch_dtype": str(encoder.dtype).removeprefix("torch."),
        "conv_dim": [channels for channels, _, _ in layers],
        "conv_kernel": [kernel for _, kernel, _ in layers],
        "conv_stride": [stride for _, _, stride in layers],
        # Masking in training needs a learnt vector, which encoders do not keep.
        "apply_spec_augment": False,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }
    for name, field in huggingface_fields(spec).items():
        if name == "normalize_eps":  # a warning says where it differs
            continue
        value = _field(config, name)
        allowed = [field.value] if field.option is None else list(field.values.values())
        if allowed and value not in allowed:
            raise AuricleError(
                f"the {encoder.family} of transformers cannot have {name} {value}, only "
                f"{' or '.join(map(str, dict.fromkeys(allowed)))}; this encoder can be kept as the "
                'library\'s own file: encoder.save("name.safetensors")'
            )
        if field.option is not None:
            options[field.option] = _original_value(field, value)
    return options


def _field(config: object, name: str) -> Any:
    """A field of a config by its dotted name; None in a config that is None."""
    for part in name.split("."):
        config = getattr(config, part, None)
    return config


def _original_value(field: Field, value: object) -> object:
    """The option's value that stands for a field's; the first of synonyms."""
    if not field.values:
        return value
    name = next(theirs for theirs, ours in field.values.items() if ours == value)
    return {"true": True, "false": False}.get(name, name)


def exported_preprocessor(encoder: Encoder) -> dict[str, Any]:
    """The content of `preprocessor_config.json`."""
    config, spec = _exportable(encoder)
    kind = "OmniASR" if str(spec.architecture).startswith("OmniASR") else "Wav2Vec2"
    return {
        "feature_extractor_type": f"{kind}FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": SAMPLE_RATE,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": config.normalize,
        # A group norm over time takes padding in, mask or not, as these models were trained.
        "return_attention_mask": config.extractor.norm == "layer",
    }


def exported_weights(encoder: Encoder) -> dict[str, Tensor]:
    """The weights under the names of `transformers`."""
    config, spec = _exportable(encoder)
    keymap = huggingface_keys(spec)
    ours = encoder.state_dict()
    if config.transformer.positions.kind == PLAIN:
        for place, conv in encoder.named_modules():
            if isinstance(conv, WeightNormConv):
                ours[f"{place}.weight"] = conv.folded()
                del ours[f"{place}.weight_g"], ours[f"{place}.weight_v"]
    weights = {keymap.original(name): weight.detach().contiguous() for name, weight in ours.items()}
    if not config.projection:
        # transformers has the layer always; the identity leaves every number as it is.
        identity = torch.eye(config.transformer.hidden_size, dtype=encoder.dtype)
        weights[f"{PROJECTION}.weight"] = identity
        weights[f"{PROJECTION}.bias"] = torch.zeros(len(identity), dtype=encoder.dtype)
    return weights


def _exportable(encoder: Encoder) -> tuple[WaveformTransformerConfig, FamilyFormat]:
    """The config to write, and the format of the family.

    Where the model of transformers has no weight norm the config is that of folded weights.
    """
    config = encoder.config
    spec = FAMILIES[encoder.family].formats.get(huggingface.SPEC)
    if spec is None or not isinstance(config, WaveformTransformerConfig):
        raise AuricleError(
            f"transformers has no model for {encoder.info.name}, an encoder of the family "
            f"{encoder.family}; expected one of {', '.join(huggingface.model_types().values())}. "
            'Any encoder can be kept as the library\'s own file: encoder.save("name.safetensors")'
        )
    positions = config.transformer.positions
    is_plain = huggingface_fields(spec)["transformer.positions.kind"].value == PLAIN
    if is_plain and positions.kind == "weight_norm":
        positions = msgspec.structs.replace(positions, kind=PLAIN)
        transformer = msgspec.structs.replace(config.transformer, positions=positions)
        config = msgspec.structs.replace(config, transformer=transformer)
    return config, spec
