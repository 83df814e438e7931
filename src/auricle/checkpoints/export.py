"""Encoders of the wav2vec 2.0 kind, and Whisper's, as folders that `transformers` reads."""

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
from auricle.checkpoints.keymap import KeyMap
from auricle.checkpoints.options import Options, check_demands
from auricle.checkpoints.waveform_transformer import (
    HUGGINGFACE_EPS,
    huggingface_fields,
    huggingface_keys,
)
from auricle.errors import AuricleError
from auricle.files.atomic import write_whole_folder
from auricle.frontends.whisper_mel import FFT_SAMPLES, HOP_SAMPLES
from auricle.geometry import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.models.waveform_transformer import WaveformTransformerConfig
from auricle.models.whisper import FRAMES, WhisperConfig
from auricle.nn.conv_positions import WeightNormConv

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.models.definition import Config

logger = logging.getLogger(__name__)

PROJECTION = "feature_projection.projection"
PLAIN = "plain"
"""Kind of positions whose weight norm is folded in."""

NO_MASKING = {"apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}
"""Masking in training needs a learnt vector, which encoders do not keep."""

NO_DECODER = {
    "decoder_layers": 0,
    "decoder_attention_heads": 1,
    "decoder_ffn_dim": 1,
    "max_target_positions": 1,
    "vocab_size": 1,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0),
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
"""The smallest decoder that a Whisper of transformers can have."""


def export_to_transformers(encoder: Encoder, folder: str | Path) -> None:
    """Write an encoder as a folder that `transformers` loads to the same numbers.

    The folder holds `config.json`, `preprocessor_config.json` and `model.safetensors`, of the
    bare encoder (`AutoModel.from_pretrained(folder)`) and in the type of its weights. Hidden
    states 0, 1, ... are the layers `input`, `layer_1`, ...; `last_hidden_state` is the last one,
    which hidden state -1 of pre-norm models is not since transformers 5 (it is before the norm).
    A Whisper encoder becomes `AutoModel.from_pretrained(folder).encoder`, beside a decoder of no
    layers.

    Args:
        encoder: A wav2vec 2.0, HuBERT, WavLM, data2vec audio or Whisper encoder.
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
    spec = FAMILIES[encoder.family].formats[huggingface.SPEC]
    read = encoder.config
    if not isinstance(read, WaveformTransformerConfig):
        return
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
    options: dict[str, Any] = {
        "architectures": [spec.architecture],
        **spec.options,
        "torch_dtype": str(encoder.dtype).removeprefix("torch."),
        **NO_MASKING,
    }
    if isinstance(config, WaveformTransformerConfig):
        fields = huggingface_fields(spec)
        columns = zip(*config.extractor.layers, strict=True)
        options |= zip(("conv_dim", "conv_kernel", "conv_stride"), map(list, columns), strict=True)
    else:
        fields = spec.fields
        options |= NO_DECODER
    for name, field in fields.items():
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
    check_demands(spec.demands, Options(options, f"the configuration of {encoder.info.name}"))
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
    common = {"sampling_rate": SAMPLE_RATE, "padding_side": "right", "padding_value": 0.0}
    if isinstance(config, WhisperConfig):
        return {
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": config.num_mels,
            "hop_length": HOP_SAMPLES,
            "n_fft": FFT_SAMPLES,
            "chunk_length": config.max_frames * FRAMES.hop_samples // SAMPLE_RATE,
            **common,
            "return_attention_mask": False,
        }
    assert isinstance(config, WaveformTransformerConfig)
    kind = "OmniASR" if str(spec.architecture).startswith("OmniASR") else "Wav2Vec2"
    return {
        "feature_extractor_type": f"{kind}FeatureExtractor",
        "feature_size": 1,
        **common,
        "do_normalize": config.normalize,
        # A group norm over time takes padding in, mask or not, as these models were trained.
        "return_attention_mask": config.extractor.norm == "layer",
    }


def exported_weights(encoder: Encoder) -> dict[str, Tensor]:
    """The weights under the names of `transformers`."""
    config, spec = _exportable(encoder)
    ours = encoder.state_dict()
    if isinstance(config, WaveformTransformerConfig):
        keymap, prefix, added = huggingface_keys(spec), "", _projection(config)
        if config.transformer.positions.kind == PLAIN:
            _fold_weight_norm(encoder, ours)
    else:
        keymap, prefix = KeyMap(spec.keys, spec.unused), "encoder."
        width = encoder.layer_info(None).dim
        added = {
            "decoder.embed_tokens.weight": torch.zeros(1, width),
            "decoder.embed_positions.weight": torch.zeros(1, width),
            "decoder.layer_norm.weight": torch.ones(width),
            "decoder.layer_norm.bias": torch.zeros(width),
        }
    weights = {
        prefix + keymap.original(name): weight.detach().contiguous()
        for name, weight in ours.items()
    }
    return weights | {name: weight.to(encoder.dtype) for name, weight in added.items()}


def _projection(config: WaveformTransformerConfig) -> dict[str, Tensor]:
    """The projection that transformers has always; the identity leaves every number as it is."""
    if config.projection:
        return {}
    width = config.transformer.hidden_size
    return {f"{PROJECTION}.weight": torch.eye(width), f"{PROJECTION}.bias": torch.zeros(width)}


def _fold_weight_norm(encoder: Encoder, weights: dict[str, Tensor]) -> None:
    """Replace both parts of each weight norm in `weights` by their product."""
    for place, conv in encoder.named_modules():
        if isinstance(conv, WeightNormConv):
            weights[f"{place}.weight"] = conv.folded()
            del weights[f"{place}.weight_g"], weights[f"{place}.weight_v"]


def _exportable(encoder: Encoder) -> tuple[Config, FamilyFormat]:
    """The config to write, and the format of the family.

    Where the model of transformers has no weight norm the config is that of folded weights.
    """
    config = encoder.config
    spec = FAMILIES[encoder.family].formats.get(huggingface.SPEC)
    if spec is None or not isinstance(config, WaveformTransformerConfig | WhisperConfig):
        raise AuricleError(
            f"transformers has no model for {encoder.info.name}, an encoder of the family "
            f"{encoder.family}; expected one of {', '.join(huggingface.model_types().values())}. "
            'Any encoder can be kept as the library\'s own file: encoder.save("name.safetensors")'
        )
    if not isinstance(config, WaveformTransformerConfig):
        return config, spec
    positions = config.transformer.positions
    is_plain = huggingface_fields(spec)["transformer.positions.kind"].value == PLAIN
    if is_plain and positions.kind == "weight_norm":
        positions = msgspec.structs.replace(positions, kind=PLAIN)
        transformer = msgspec.structs.replace(config.transformer, positions=positions)
        config = msgspec.structs.replace(config, transformer=transformer)
    return config, spec
