"""Formats `npc-repo` and `npc-weights`: APC, VQ-APC and NPC of their authors' repositories.

`npc-repo` files have a section `config`, which s3prl's authors added to what the three's joint
repository writes. `npc-weights` is the rest: that repository's own files, and the bare state dicts
that APC was first published as.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from auricle.catalogue.family import Family
from auricle.checkpoints.keymap import Converted, KeyMap, has_part
from auricle.checkpoints.options import Options, build_config, fbank_fields, read_config
from auricle.checkpoints.state_dicts import state_dict
from auricle.errors import CheckpointError
from auricle.frontends import FbankConfig
from auricle.nn.quantizer import CodebookConfig

logger = logging.getLogger(__name__)

SPEC = "npc-repo"
"""Name of the format in the families' data files."""

PUBLISHED_AUDIO = {"feat_type": "fbank", "frame_length": 25, "frame_shift": 10, "cmvn": True}
"""The front end of the published files."""

SECTIONS = ("data", "model", "hparas")
"""Sections of the repository's configuration files; the last one is the trainer's."""

PUBLISHED_MASK_SIZE = 5
"""Frames that the published NPC hides."""


METHODS = {"apc": "apc", "vqapc": "vq_apc", "npc": "npc"}
"""`model.method` of the repository -> family."""


def matches(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `npc-repo`."""
    sections = [content.get(name) for name in ("config", "model")]
    return all(isinstance(one, Mapping) for one in sections) and "model" in content["config"]


def families(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The family of a checkpoint, as the one entry of a tuple.

    Raises:
        CheckpointError: Its method is none of the three.
    """
    if "weights" in payload:
        return (METHODS[method(payload["weights"]) or "apc"],)
    model = Options(payload["config"], "config").section("model")
    name = model.choice("method", tuple(METHODS), None)
    if name == "apc" and "vq" in model.section("paras"):
        return ("vq_apc",)
    return (METHODS[name],)


def convert(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a checkpoint of APC, VQ-APC or NPC.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    spec = family.formats[SPEC]
    audio, model, weights = sections(payload)
    paras = model.section("paras")
    options = [field.option.split(".") for field in spec.fields.values() if field.option]
    paras.refuse_unknown(list(dict.fromkeys(one[1] for one in options if one[0] == "paras")))
    given: dict[str, Any] = {"features": build_config(lambda: fbank_config(audio))}
    config_type = family.config_type()
    if "codebooks" in config_type.__struct_fields__:
        given["codebooks"] = build_config(lambda: codebooks(paras))
    config = read_config(config_type, spec.fields, model, given)
    return Converted(config, weights, KeyMap(spec.keys, spec.unused))


def sections(payload: Mapping[str, Any]) -> tuple[Options, Options, dict[str, Tensor]]:
    """Sections `config.data.audio` and `config.model`, and the weights.

    Options that a file of weights alone lacks are read from shapes and, where shapes do not decide,
    are those of the published files, with a warning.
    """
    if "weights" in payload:
        weights = state_dict(payload["weights"], "the weights")
        given = Options(payload["config"], "config")
        described = _described(weights)
        given.refuse_unknown(SECTIONS)
        if "data" not in given and "model" not in given:
            logger.warning(
                "the checkpoint has no configuration: widths are those of its weights; features "
                "(fbank, mean and variance of the utterance), residual connections and activation "
                "are taken to be those of the published files; config= says otherwise"
            )
        content = _merged(described, payload["config"])
    else:
        weights = state_dict(payload["model"], "model")
        content = payload["config"]
    config = Options(content, "config")
    return config.section("data").section("audio"), config.section("model"), weights


def method(weights: Mapping[str, object]) -> str | None:
    """The `model.method` that weights are of; None where they are of none of the three."""
    if has_part(weights, "masked_convs", "0", "conv", "weight"):
        return "npc"
    if not any(has_part(weights, name, "0", "weight_hh_l0") for name in ("rnn_layers", "rnns")):
        return None
    return "vqapc" if has_part(weights, "vq_layers") else "apc"


def _described(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The section `config` that follows from names and shapes of weights.

    Raises:
        CheckpointError: There is a layer before the recurrent ones, which is not implemented.
    """
    if has_part(weights, "prenet"):
        raise CheckpointError("the checkpoint has a prenet, which no published APC has")
    kind = method(weights)
    paras: dict[str, Any] = {"residual": True}
    if kind == "npc":
        convs = _by_number(weights, r"masked_convs\.(\d+)\.conv\.weight")
        first = _by_number(weights, r"blocks\.(\d+)\.conv\.weight").get(0)
        paras |= {
            "n_blocks": len(convs),
            "hidden_size": convs[0].shape[0],
            "kernel_size": convs[0].shape[-1],
            "mask_size": _mask_size(weights),
            "batch_norm": has_part(weights, "blocks", "0", "bn1"),
        }
        bottleneck = _by_number(weights, r"(ae_bottleneck)\.weight")
        if bottleneck:
            paras["dim_bottleneck"] = next(iter(bottleneck.values())).shape[0]
    else:
        layers = _by_number(weights, r"rnn(?:_layer)?s\.(\d+)\.weight_hh_l0")
        first = _by_number(weights, r"rnn(?:_layer)?s\.(\d+)\.weight_ih_l0").get(0)
        paras |= {"num_layers": len(layers), "hidden_size": layers[0].shape[-1]}
    vectors = _by_number(weights, r"vq_layers\.(\d+)\.codebook_CxE\.weight")
    if vectors:
        paras["vq"] = {
            "codebook_size": [vectors[index].shape[1] for index in sorted(vectors)],
            "code_dim": [vectors[index].shape[0] for index in sorted(vectors)],
        }
    num_mels = 0 if first is None else first.shape[1]
    return {
        "data": {"audio": {**PUBLISHED_AUDIO, "feat_dim": num_mels}},
        "model": {"method": kind, "paras": paras},
    }


def _by_number(weights: Mapping[str, Tensor], pattern: str) -> dict[int, Tensor]:
    """The weights whose names end so, by the number of their layer."""
    found = {}
    for key, weight in weights.items():
        match = re.search(rf"(?:^|\.){pattern}$", key)
        if match is not None:
            found[int(match[1]) if match[1].isdecimal() else 0] = weight
    return found


def _mask_size(weights: Mapping[str, Tensor]) -> int:
    """Frames that the masked convolution of the first block hides, less those of the block."""
    mask = _by_number(weights, r"masked_convs\.(\d+)\.conv_mask").get(0)
    if mask is None:
        return PUBLISHED_MASK_SIZE
    return int((mask[0, 0] == 0).sum()) - 2


def _merged(described: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`described` with what is given in place of what it says, section by section."""
    merged = dict(described)
    for name, value in given.items():
        own = merged.get(name)
        if isinstance(own, dict) and isinstance(value, Mapping):
            merged[name] = _merged(own, value)
        else:
            merged[name] = value
    return merged


def fbank_config(audio: Options) -> FbankConfig:
    """The front end that section `config.data.audio` describes.

    Raises:
        CheckpointError: It asks for other features than fbank.
    """
    audio.demand("feat_type", "fbank", "these families read fbank features")
    own = ("feat_type", "feat_dim", "decode_wav", "cmvn")
    kaldi = audio.without(own)
    fields = fbank_fields(kaldi)
    fields.setdefault("window", "hamming")
    return FbankConfig(
        **fields, num_mels=audio.require("feat_dim", int), cmvn=audio.get("cmvn", bool, True)
    )


def codebooks(paras: Options) -> tuple[CodebookConfig, ...]:
    """The codebooks that section `paras.vq` describes; none where it is absent."""
    if "vq" not in paras:
        return ()
    vq = paras.section("vq")
    vq.refuse_unknown(("codebook_size", "code_dim", "gumbel_temperature"))
    sizes = vq.require("codebook_size", list[int])
    dims = vq.require("code_dim", list[int])
    if len(sizes) != len(dims):
        raise vq.error(f"lists {len(sizes)} codebook_size but {len(dims)} code_dim")
    return tuple(
        CodebookConfig(num_entries=size, dim=dim) for size, dim in zip(sizes, dims, strict=True)
    )
