"""Encoders as folders that `transformers` reads: the way back."""

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
    NO_POSITIONS,
    huggingface_fields,
    huggingface_keys,
)
from auricle.errors import AuricleError
from auricle.files.atomic import write_whole_folder
from auricle.geometry import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.models.w2v_bert import W2vBertConfig
from auricle.models.waveform_transformer import Wav2Vec2ConformerConfig, WaveformEncoderConfig

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

PROJECTION = "feature_projection.projection"
POSITION_CONV, WEIGHT = "encoder.pos_conv_embed.conv", "parametrizations.weight.original"


def export_to_transformers(encoder: Encoder, folder: str | Path) -> None:
    """Write an encoder as a folder that `transformers` loads to the same numbers.

    The folder holds `config.json`, `preprocessor_config.json` and `model.safetensors`, of the
    bare encoder (`AutoModel.from_pretrained(folder)`) and in the type of its weights. Hidden
    states 0, 1, ... are the layers `input`, `layer_1`, ...; `last_hidden_state` is the last one,
    which hidden state -1 of pre-norm models is not since transformers 5 (it is before the norm).

    Args:
        encoder: A wav2vec 2.0, HuBERT, WavLM, data2vec audio, w2v-BERT 2.0 or Conformer encoder.
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
    read = encoder.config
    if not isinstance(read, WaveformEncoderConfig):
        return
    if read.normalize and read.normalize_eps != HUGGINGFACE_EPS:
        logger.warning(
            "transformers adds %g to the variance of a waveform where %s adds %g: quiet recordings "
            "come out slightly different there",
            HUGGINGFACE_EPS,
            encoder.info.name,
            read.normalize_eps,
        )


def exported_config(encoder: Encoder) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        AuricleError: The encoder is of a family, or has an option, that cannot be exported.
    """
    config, spec = _exportable(encoder)
    options: dict[str, Any] = {
        "architectures": [spec.architecture],
        **spec.options,
        "torch_dtype": str(encoder.dtype).removeprefix("torch."),
        **_input_options(config),
        # Masking in training needs a learnt vector, which encoders do not keep.
        "apply_spec_augment": False,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }
    for name, field in huggingface_fields(FAMILIES[encoder.family]).items():
        value = _field(config, name)
        allowed = [field.value] if field.option is None else list(field.values.values())
        if allowed and value not in allowed:
            raise _refusal(encoder, name, value, *allowed)
        if field.option is not None:
            original = _original_value(field, value)
            if options.setdefault(field.option, original) != original:
                raise _refusal(encoder, name, value, options[field.option])
    return options


def _refusal(encoder: Encoder, name: str, value: object, *allowed: object) -> AuricleError:
    return AuricleError(
        f"the {encoder.family} of transformers cannot have {name} {value}, only "
        f"{' or '.join(map(str, dict.fromkeys(allowed)))}; this encoder can be kept as the "
        'library\'s own file: encoder.save("name.safetensors")'
    )


def _input_options(config: WaveformEncoderConfig | W2vBertConfig) -> dict[str, Any]:
    """Options of `config.json` about what the first layer reads."""
    if isinstance(config, W2vBertConfig):
        return {"feature_projection_input_dim": config.features.dim}
    layers = config.extractor.layers
    options: dict[str, Any] = {
        "conv_dim": [channels for channels, _, _ in layers],
        "conv_kernel": [kernel for _, kernel, _ in layers],
        "conv_stride": [stride for _, _, stride in layers],
    }
    if isinstance(config, Wav2Vec2ConformerConfig):
        options |= {"num_conv_pos_embeddings": 1, "num_conv_pos_embedding_groups": 1}
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
    return {"true": True, "false": False, NO_POSITIONS: None}.get(name, name)


def exported_preprocessor(encoder: Encoder) -> dict[str, Any]:
    """The content of `preprocessor_config.json`."""
    config, _ = _exportable(encoder)
    if isinstance(config, W2vBertConfig):
        features = config.features
        own = {"num_mels": features.num_mels, "stack": features.stack}
        published = msgspec.structs.replace(W2vBertConfig().features, **own)
        if features != published:
            raise _refusal(encoder, "features", features, published)
        return {
            "feature_extractor_type": "SeamlessM4TFeatureExtractor",
            "feature_size": features.num_mels,
            "num_mel_bins": features.num_mels,
            "sampling_rate": SAMPLE_RATE,
            "stride": features.stack,
            "padding_side": "right",
            "padding_value": 1.0,
            "return_attention_mask": True,
        }
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
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
    weights = {
        keymap.original(name): weight.detach().contiguous()
        for name, weight in encoder.state_dict().items()
    }
    if isinstance(config, Wav2Vec2ConformerConfig):
        # transformers has a convolution of positions here that it never uses.
        width = config.conformer.hidden_size
        shapes = {"bias": (width,), f"{WEIGHT}0": (1, 1, 1), f"{WEIGHT}1": (width, width, 1)}
        for name, shape in shapes.items():
            weights[f"{POSITION_CONV}.{name}"] = torch.ones(shape, dtype=encoder.dtype)
    if isinstance(config, WaveformEncoderConfig) and not config.projection:
        # transformers has the layer always; the identity leaves every number as it is.
        identity = torch.eye(config.extractor.dim, dtype=encoder.dtype)
        weights[f"{PROJECTION}.weight"] = identity
        weights[f"{PROJECTION}.bias"] = torch.zeros(len(identity), dtype=encoder.dtype)
    return weights


def _exportable(
    encoder: Encoder,
) -> tuple[WaveformEncoderConfig | W2vBertConfig, FamilyFormat]:
    config = encoder.config
    spec = FAMILIES[encoder.family].formats.get(huggingface.SPEC)
    if spec is None or not isinstance(config, (WaveformEncoderConfig, W2vBertConfig)):
        raise AuricleError(
            f"transformers has no model for {encoder.info.name}, an encoder of the family "
            f"{encoder.family}; expected one of {', '.join(huggingface.model_types().values())}. "
            'Any encoder can be kept as the library\'s own file: encoder.save("name.safetensors")'
        )
    return config, spec
