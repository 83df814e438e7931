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
from auricle.checkpoints.options import Options, check_demands
from auricle.checkpoints.waveform_transformer import (
    HUGGINGFACE_EPS,
    huggingface_fields,
    huggingface_keys,
)
from auricle.errors import AuricleError
from auricle.files.atomic import write_whole_folder
from auricle.frontends.log_mel import WHISPER_FFT_SAMPLES, WHISPER_HOP_SAMPLES
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.models.spectral_conformer import W2vBertConfig
from auricle.models.waveform_transformer import (
    Wav2Vec2ConformerConfig,
    WaveformEncoderConfig,
    WaveformTransformerConfig,
)
from auricle.models.whisper import FRAMES, WhisperConfig
from auricle.nn.conv_positions import WeightNormConv

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.models.definition import Config

logger = logging.getLogger(__name__)

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

PREPROCESSOR = {"sampling_rate": SAMPLE_RATE, "padding_side": "right", "padding_value": 0.0}
"""Options of every preprocessor, unless it says otherwise."""

PROJECTION = "feature_projection.projection"
POSITION_CONV, WEIGHT = "encoder.pos_conv_embed.conv", "parametrizations.weight.original"
PLAIN = "plain"
"""Kind of positions whose weight norm is folded in."""


def export_to_transformers(encoder: Encoder, folder: str | Path) -> None:
    """Write an encoder as a folder that `transformers` loads to the same numbers.

    The folder holds `config.json`, `preprocessor_config.json` and `model.safetensors`, of the
    bare encoder (`AutoModel.from_pretrained(folder)`) and in the type of its weights. Hidden
    states 0, 1, ... are the layers `input`, `layer_1`, ...; `last_hidden_state` is the last one,
    which hidden state -1 of pre-norm models is not since transformers 5 (it is before the norm).
    A Whisper encoder becomes `AutoModel.from_pretrained(folder).encoder`, beside a decoder of no
    layers.

    Args:
        encoder: A wav2vec 2.0, HuBERT, WavLM, data2vec audio, w2v-BERT 2.0, wav2vec 2.0 Conformer
            or Whisper encoder.
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
    _counterpart(encoder).warn()


def exported_config(encoder: Encoder) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
        AuricleError: The encoder is of a family, or has an option, that cannot be exported.
    """
    model = _counterpart(encoder)
    options: dict[str, Any] = {
        "architectures": [model.spec.architecture],
        **model.spec.options,
        "torch_dtype": str(encoder.dtype).removeprefix("torch."),
        **NO_MASKING,
        **model.options(),
    }
    for name, field in huggingface_fields(FAMILIES[encoder.family]).items():
        if name == "normalize_eps":  # a warning says where it differs
            continue
        value = _field(model.config, name)
        allowed = [field.value] if field.option is None else list(field.values.values())
        if allowed and value not in allowed:
            raise model.refusal(name, value, *allowed)
        if field.option is not None:
            original = _original_value(field, value)
            if options.setdefault(field.option, original) != original:
                raise model.refusal(name, value, options[field.option])
    check_demands(model.spec.demands, Options(options, f"the configuration of {model.name}"))
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
    return {"true": True, "false": False, huggingface.NO_POSITIONS: None}.get(name, name)


def exported_preprocessor(encoder: Encoder) -> dict[str, Any]:
    """The content of `preprocessor_config.json`."""
    return _counterpart(encoder).preprocessor()


def exported_weights(encoder: Encoder) -> dict[str, Tensor]:
    """The weights under the names of `transformers`."""
    model = _counterpart(encoder)
    keymap = huggingface_keys(model.spec)
    weights = {
        model.place + keymap.original(name): weight.detach().contiguous()
        for name, weight in model.weights().items()
    }
    added = model.added_weights()
    return weights | {name: weight.to(encoder.dtype) for name, weight in added.items()}


class _Counterpart:
    """The model of transformers that an encoder becomes, beyond what data files say of it."""

    place = ""
    """Place of the encoder's weights among those of the model."""

    config: Config

    def __init__(self, encoder: Encoder, spec: FamilyFormat) -> None:
        self.encoder = encoder
        self.config = encoder.config
        self.spec = spec
        self.name = encoder.info.name

    def options(self) -> dict[str, Any]:
        """Options of `config.json` that stand for no single field of the config."""
        return {}

    def preprocessor(self) -> dict[str, Any]:
        """The content of `preprocessor_config.json`."""
        raise NotImplementedError  # pragma: no cover - every kind defines it

    def weights(self) -> dict[str, Tensor]:
        """The encoder's weights, under its own names."""
        return self.encoder.state_dict()

    def added_weights(self) -> dict[str, Tensor]:
        """Weights that the model has and the encoder has not, under the model's names."""
        return {}

    def warn(self) -> None:
        """Log a difference that cannot be exported and is too small to refuse."""

    def refusal(self, field: str, value: object, *allowed: object) -> AuricleError:
        """An error about a field of the config that the model cannot have."""
        return AuricleError(
            f"the {self.encoder.family} of transformers cannot have {field} {value}, only "
            f"{' or '.join(map(str, dict.fromkeys(allowed)))}; this encoder can be kept as the "
            'library\'s own file: encoder.save("name.safetensors")'
        )


class _WaveformModel(_Counterpart):
    config: WaveformEncoderConfig

    def options(self) -> dict[str, Any]:
        columns = map(list, zip(*self.config.extractor.layers, strict=True))
        return dict(zip(("conv_dim", "conv_kernel", "conv_stride"), columns, strict=True))

    def preprocessor(self) -> dict[str, Any]:
        kind = "OmniASR" if str(self.spec.architecture).startswith("OmniASR") else "Wav2Vec2"
        return {
            "feature_extractor_type": f"{kind}FeatureExtractor",
            "feature_size": 1,
            **PREPROCESSOR,
            "do_normalize": self.config.normalize,
            # A group norm over time takes padding in, mask or not, as these models were trained.
            "return_attention_mask": self.config.extractor.norm == "layer",
        }

    def added_weights(self) -> dict[str, Tensor]:
        if self.config.projection:
            return {}
        # transformers has the layer always; the identity leaves every number as it is.
        width = self.config.extractor.dim
        return {f"{PROJECTION}.weight": torch.eye(width), f"{PROJECTION}.bias": torch.zeros(width)}

    def warn(self) -> None:
        eps = self.spec.fields.get("normalize_eps", Field(value=HUGGINGFACE_EPS)).value
        if self.config.normalize and self.config.normalize_eps != eps:
            logger.warning(
                "transformers adds %g to the variance of a waveform where %s adds %g: quiet "
                "recordings come out slightly different there",
                eps,
                self.name,
                self.config.normalize_eps,
            )


class _TransformerModel(_WaveformModel):
    config: WaveformTransformerConfig

    def __init__(self, encoder: Encoder, spec: FamilyFormat) -> None:
        super().__init__(encoder, spec)
        fields = huggingface_fields(FAMILIES[encoder.family])
        positions = self.config.transformer.positions
        is_plain = fields["transformer.positions.kind"].value == PLAIN
        if is_plain and positions.kind == "weight_norm":
            # Where the model has no weight norm the config is that of folded weights.
            positions = msgspec.structs.replace(positions, kind=PLAIN)
            transformer = msgspec.structs.replace(self.config.transformer, positions=positions)
            self.config = msgspec.structs.replace(self.config, transformer=transformer)

    def weights(self) -> dict[str, Tensor]:
        weights = super().weights()
        if self.config.transformer.positions.kind != PLAIN:
            return weights
        for place, conv in self.encoder.named_modules():
            if isinstance(conv, WeightNormConv):
                weights[f"{place}.weight"] = conv.folded()
                del weights[f"{place}.weight_g"], weights[f"{place}.weight_v"]
        return weights


class _ConformerModel(_WaveformModel):
    """It has a convolution of positions that it never uses."""

    config: Wav2Vec2ConformerConfig

    def options(self) -> dict[str, Any]:
        unused = {"num_conv_pos_embeddings": 1, "num_conv_pos_embedding_groups": 1}
        return {**super().options(), **unused}

    def added_weights(self) -> dict[str, Tensor]:
        width = self.config.conformer.hidden_size
        shapes = {"bias": (width,), f"{WEIGHT}0": (1, 1, 1), f"{WEIGHT}1": (width, width, 1)}
        unused = {f"{POSITION_CONV}.{name}": torch.ones(shape) for name, shape in shapes.items()}
        return {**super().added_weights(), **unused}


class _W2vBertModel(_Counterpart):
    config: W2vBertConfig

    def options(self) -> dict[str, Any]:
        return {"feature_projection_input_dim": self.config.features.dim}

    def preprocessor(self) -> dict[str, Any]:
        features = self.config.features
        own = {"num_mels": features.num_mels, "stack": features.stack}
        published = msgspec.structs.replace(W2vBertConfig().features, **own)
        if features != published:
            raise self.refusal("features", features, published)
        return {
            "feature_extractor_type": "SeamlessM4TFeatureExtractor",
            "feature_size": features.num_mels,
            "num_mel_bins": features.num_mels,
            "stride": features.stack,
            **PREPROCESSOR,
            "padding_value": 1.0,
            "return_attention_mask": True,
        }


class _WhisperModel(_Counterpart):
    place = "encoder."
    config: WhisperConfig

    def options(self) -> dict[str, Any]:
        return NO_DECODER

    def preprocessor(self) -> dict[str, Any]:
        return {
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": self.config.num_mels,
            "hop_length": WHISPER_HOP_SAMPLES,
            "n_fft": WHISPER_FFT_SAMPLES,
            "chunk_length": self.config.max_frames * FRAMES.hop_samples // SAMPLE_RATE,
            **PREPROCESSOR,
            "return_attention_mask": False,
        }

    def added_weights(self) -> dict[str, Tensor]:
        width = self.config.hidden_size
        return {
            "decoder.embed_tokens.weight": torch.zeros(1, width),
            "decoder.embed_positions.weight": torch.zeros(1, width),
            "decoder.layer_norm.weight": torch.ones(width),
            "decoder.layer_norm.bias": torch.zeros(width),
        }


COUNTERPARTS: dict[type[Config], type[_Counterpart]] = {
    WaveformTransformerConfig: _TransformerModel,
    Wav2Vec2ConformerConfig: _ConformerModel,
    W2vBertConfig: _W2vBertModel,
    WhisperConfig: _WhisperModel,
}


def _counterpart(encoder: Encoder) -> _Counterpart:
    spec = FAMILIES[encoder.family].formats.get(huggingface.SPEC)
    for config_type, counterpart in COUNTERPARTS.items():
        if spec is not None and isinstance(encoder.config, config_type):
            return counterpart(encoder, spec)
    known = [
        stem
        for stem in huggingface.model_types().values()
        if issubclass(FAMILIES[stem].config_type(), tuple(COUNTERPARTS))
    ]
    raise AuricleError(
        f"{encoder.info.name}, an encoder of the family {encoder.family}, cannot be exported to "
        f"transformers; expected one of {', '.join(known)}. "
        'Any encoder can be kept as the library\'s own file: encoder.save("name.safetensors")'
    )
