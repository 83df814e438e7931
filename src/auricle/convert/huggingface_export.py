"""Encoders of the wav2vec 2.0 kind as folders that `transformers` reads: the way back."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from auricle.convert import huggingface
from auricle.convert.huggingface_encoder import (
    EXTRACTOR_KEYS,
    LAYER_KEYS,
    NORMALIZE_EPS,
    POSITION_KEYS,
    STACK_KEY,
)
from auricle.convert.keymap import KeyMap
from auricle.errors import AuricleError
from auricle.files.atomic import write_whole_folder
from auricle.geometry import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.models.wav2vec2_encoder import WaveformTransformerConfig
from auricle.nn.waveform_activations import WaveformActivation

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

MODEL_TYPES = {family: model_type for model_type, family in huggingface.FAMILIES.items()}
"""Family -> `model_type` of its configuration."""

ARCHITECTURES = {
    "wav2vec2": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "data2vec": "Data2VecAudioModel",
}
"""Family -> class of the bare encoder."""

ACTIVATION_NAMES: dict[WaveformActivation, str] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "relu": "relu",
    "swish": "silu",
    "tanh": "tanh",
}

PROJECTION = "feature_projection.projection"


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
    if _config(encoder).normalize and _config(encoder).normalize_eps != NORMALIZE_EPS:
        logger.warning(
            "transformers adds %g to the variance of a waveform where %s adds %g: quiet recordings "
            "come out slightly different there",
            NORMALIZE_EPS,
            encoder.info.name,
            _config(encoder).normalize_eps,
        )


def exported_config(encoder: Encoder) -> dict[str, Any]:
    """What `config.json` says.

    Raises:
        AuricleError: The encoder is of a family, or has an option, that cannot be exported.
    """
    config = _config(encoder)
    _refuse_options(encoder.family, config)
    transformer, extractor = config.transformer, config.extractor
    positions = transformer.positions
    options: dict[str, Any] = {
        "architectures": [ARCHITECTURES[encoder.family]],
        "model_type": MODEL_TYPES[encoder.family],
        "torch_dtype": str(encoder.dtype).removeprefix("torch."),
        "conv_dim": [channels for channels, _, _ in extractor.layers],
        "conv_kernel": [kernel for _, kernel, _ in extractor.layers],
        "conv_stride": [stride for _, _, stride in extractor.layers],
        "conv_bias": extractor.bias,
        "feat_extract_norm": extractor.norm,
        "feat_extract_activation": ACTIVATION_NAMES[extractor.activation],
        "feat_proj_dropout": config.projection_dropout,
        "hidden_size": transformer.hidden_size,
        "num_hidden_layers": transformer.num_layers,
        "num_attention_heads": transformer.num_heads,
        "intermediate_size": transformer.ffn_size,
        "hidden_act": ACTIVATION_NAMES[transformer.activation],
        "do_stable_layer_norm": transformer.pre_layer_norm,
        "layer_norm_eps": transformer.layer_norm_eps,
        "num_conv_pos_embeddings": positions.kernel_size,
        "num_conv_pos_embedding_groups": positions.num_groups,
        "hidden_dropout": transformer.dropout,
        "attention_dropout": transformer.attention_dropout,
        "activation_dropout": transformer.activation_dropout,
        "layerdrop": transformer.layer_drop,
        # Masking in training needs a learnt vector, which encoders do not keep.
        "apply_spec_augment": False,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }
    if encoder.family == "hubert":
        options["feat_proj_layer_norm"] = config.projection_norm
        options["conv_pos_batch_norm"] = positions.kind == "batch_norm"
    if positions.kind == "stack":
        options["num_conv_pos_embeddings"] = positions.depth
        options["conv_pos_kernel_size"] = positions.kernel_size
    if transformer.relative_positions is not None:
        options["num_buckets"] = transformer.relative_positions.num_buckets
        options["max_bucket_distance"] = transformer.relative_positions.max_distance
    return options


def exported_preprocessor(encoder: Encoder) -> dict[str, Any]:
    """What `preprocessor_config.json` says."""
    config = _config(encoder)
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
    config = _config(encoder)
    is_stack = config.transformer.positions.kind == "stack"
    positions = [row for row in POSITION_KEYS if (row[0] == STACK_KEY) == is_stack]
    keymap = KeyMap((*EXTRACTOR_KEYS, *positions, *LAYER_KEYS))
    weights = {
        keymap.original(name): weight.detach().contiguous()
        for name, weight in encoder.state_dict().items()
    }
    if not config.projection:
        # transformers has the layer always; the identity leaves every number as it is.
        identity = torch.eye(config.transformer.hidden_size, dtype=encoder.dtype)
        weights[f"{PROJECTION}.weight"] = identity
        weights[f"{PROJECTION}.bias"] = torch.zeros(len(identity), dtype=encoder.dtype)
    return weights


def _config(encoder: Encoder) -> WaveformTransformerConfig:
    config = encoder.config
    if encoder.family not in MODEL_TYPES or not isinstance(config, WaveformTransformerConfig):
        raise AuricleError(
            f"transformers has no model for {encoder.info.name}, an encoder of the family "
            f"{encoder.family}; expected one of {', '.join(MODEL_TYPES)}. Any encoder can be kept "
            'as the library\'s own file: encoder.save("name.safetensors")'
        )
    return config


def _refuse_options(family: str, config: WaveformTransformerConfig) -> None:
    """Raise AuricleError for options that the family's model in `transformers` does not have."""
    transformer = config.transformer
    kinds = {"hubert": ("weight_norm", "batch_norm"), "data2vec": ("stack",)}
    has_relative_positions = transformer.relative_positions is not None
    demands: dict[str, tuple[object, tuple[object, ...]]] = {
        "positions.kind": (transformer.positions.kind, kinds.get(family, ("weight_norm",))),
        "relative positions": (has_relative_positions, (family == "wavlm",)),
    }
    if family != "hubert":
        demands["projection_norm"] = (config.projection_norm, (True,))
    if family == "data2vec":
        demands["extractor.norm"] = (config.extractor.norm, ("layer",))
        demands["pre_layer_norm"] = (transformer.pre_layer_norm, (False,))
    for name, (value, allowed) in demands.items():
        if value not in allowed:
            raise AuricleError(
                f"the {family} of transformers cannot have {name} {value}, only "
                f"{' or '.join(map(str, allowed))}; this encoder can be kept as the library's own "
                'file: encoder.save("name.safetensors")'
            )
