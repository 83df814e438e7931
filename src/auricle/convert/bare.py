"""Bare tensors: weights by name in a file that does not say what encoder they are of.

A state dict saved alone (`safetensors.torch.save_file`, `torch.save(model.state_dict())`) or by a
trainer (`{"state_dict": ..., "optimizer_states": ...}`) loads once the family and the configuration
are given.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from auricle.catalogue.family import find_family
from auricle.convert import fairseq_transformer, huggingface, huggingface_encoder, s3prl, vq_wav2vec
from auricle.convert.converted import Converted, weights_in
from auricle.convert.formats import FORMATS, Format, published_elsewhere
from auricle.convert.keymap import KeyMap
from auricle.convert.originals import Configuration, read_configuration
from auricle.models.bert_encoder import SpectralBertConfig
from auricle.models.definition import Config
from auricle.models.vq_wav2vec import VqWav2VecConfig
from auricle.models.wav2vec2_encoder import WaveformTransformerConfig

logger = logging.getLogger(__name__)

NPC_REPO_FAMILIES = ("apc", "vq_apc", "npc")
S3PRL_FAMILIES = ("mockingjay", "tera", "audio_albert")
FAIRSEQ_FAMILIES = ("wav2vec", "vq_wav2vec", "wav2vec2", "hubert", "data2vec", "wavlm")


def read_bare(path: Path, formats: Iterable[Format] = FORMATS) -> dict[str, Tensor] | None:
    """The weights of a file that does not say what they are of; None for any other file.

    Args:
        path: The file.
        formats: Layouts that say what they are of.

    Raises:
        CheckpointError: The file is unsafe or damaged.
    """
    if not path.is_file():
        return None
    content = huggingface.read_weights(path)
    if not isinstance(content, Mapping) or any(
        layout.matches(content) for layout in formats if layout.holds_config
    ):
        return None
    if published_elsewhere(content):
        return None
    return weights_in(content) or None


def convert(
    weights: Mapping[str, Tensor], family: str, config: Configuration | Config
) -> Converted:
    """What an encoder of `family` is made of.

    Args:
        weights: Under the names that the authors, Hugging Face or this library give them.
        family: Stem of the family.
        config: The family's config; or, as a mapping or a JSON file, what such a config encodes
            to or the options of a checkpoint that its authors wrote, as they stand there.

    Raises:
        CheckpointError: The configuration does not hold.
    """
    if not isinstance(config, Config):
        options = read_configuration(config)
        own = _own_config(options, family)
        if own is None:
            payload = _payload(weights, family, options, config)
            converted: Converted = find_family(family).converter().convert(payload)
            return converted
        config = own
    return Converted(config, weights, _keys(family, config))


def _own_config(options: Mapping[str, Any], family: str) -> Config | None:
    """The config that options encode; None where they are of another kind."""
    config_type = find_family(family).encoder_type().config_type
    if not set(options) <= set(config_type.__struct_fields__) or not options:
        return None
    try:
        return msgspec.convert(dict(options), config_type)
    except msgspec.ValidationError:
        return None


def _keys(family: str, config: Config) -> KeyMap:
    """A table that knows every name that weights of a family may have."""
    if isinstance(config, WaveformTransformerConfig):
        tables = [fairseq_transformer.keys(config), huggingface_encoder.KEYS]
    elif isinstance(config, VqWav2VecConfig):
        tables = [vq_wav2vec.keys(config.quantizer)]
    elif isinstance(config, SpectralBertConfig):
        tables = [s3prl.keys(config.transformer)]
    else:
        tables = [find_family(family).converter().KEYS]
    renames = [rename for keys in tables for rename in keys.renames]
    # Names may also be those that `encoder.state_dict()` gives them.
    own = [(ours, ours) for _, ours in renames]
    return KeyMap((*renames, *own), [one for keys in tables for one in keys.pretraining])


def _payload(
    weights: Mapping[str, Tensor],
    family: str,
    options: Mapping[str, Any],
    config: Configuration,
) -> dict[str, Any]:
    """Weights and options in a layout that the family's converter reads."""
    if "model_type" in options:
        return {
            huggingface.CONFIG: options,
            huggingface.PREPROCESSOR: _preprocessor(options, config),
            huggingface.WEIGHTS: weights,
        }
    if family in NPC_REPO_FAMILIES:
        return {"config": options, "weights": weights}
    if family in S3PRL_FAMILIES:
        for name in ("Upstream_Config", "Config"):
            if isinstance(options.get(name), Mapping):
                return {name: options[name], "Transformer": weights}
        return {"Config": options, "Transformer": weights}
    if family in FAIRSEQ_FAMILIES:
        if isinstance(options.get("model_cfg"), Mapping):
            return {**options, "model_weight": weights}
        for name in ("cfg", "args"):
            if options.get(name) is not None:
                return {name: options[name], "model": weights}
        name = "cfg" if isinstance(options.get("model"), Mapping) else "args"
        return {name: options, "model": weights}
    return {"config": options, "weights": weights}


def _preprocessor(options: Mapping[str, Any], config: Configuration) -> dict[str, Any]:
    """The options of the preprocessor: beside the configuration's file, or among its options."""
    if isinstance(config, str | Path):
        file = Path(config).with_name(huggingface.PREPROCESSOR_FILE)
        if file.is_file():
            return dict(read_configuration(file))
    if "do_normalize" not in options:
        logger.warning(
            "the configuration does not say do_normalize, as %s does: waveforms will be normalised",
            huggingface.PREPROCESSOR_FILE,
        )
        return {}
    return {"do_normalize": options["do_normalize"]}
