"""Formats of the authors' repositories of PASE, CPC_audio, Whisper, and of APC, VQ-APC and NPC.

`npc-repo` files, of the latter three, have a section `config`, which s3prl's authors added to what
the three's joint repository writes. `npc-weights` is the rest: that repository's own files, and the
bare state dicts that APC was first published as.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from auricle.catalogue.family import Family
from auricle.checkpoints.keymap import Converted, KeyMap, has_part
from auricle.checkpoints.options import (
    Options,
    build_config,
    check_demands,
    fbank_fields,
    read_config,
)
from auricle.checkpoints.pickle.unpickle import as_mapping
from auricle.checkpoints.state_dicts import in_float32, state_dict, weights_in
from auricle.errors import CheckpointError
from auricle.frontends import FbankConfig
from auricle.models.pase import PaseConfig
from auricle.nn.quantizer import CodebookConfig

ONLY_VALUES: dict[str, object] = {
    "name": "WaveFe",
    "num_inputs": 1,
    "sincnet": True,
    "norm_type": "bnorm",
    "pad_mode": "reflect",
    "sr": 16_000,
    "activation": "prelu",
    "rnn_type": "qrnn",
    "vq_K": 0,
    "tanh_out": False,
    "resblocks": False,
}
"""Options of which the published encoders use one value, the reference's default."""

READ_OPTIONS = (
    "kwidths",
    "strides",
    "dilations",
    "fmaps",
    "emb_dim",
    "rnn_pool",
    "rnn_dim",
    "rnn_layers",
    "rnn_dropout",
    "denseskips",
    "densemerge",
    "norm_out",
)
TRAINING_OPTIONS = ("vq_beta", "vq_gamma")

PASE_KEY = "blocks.0.conv.low_hz_"
"""A weight that PASE alone has."""


def matches_pase(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint holds the weights of a PASE."""
    return has_part(weights_in(content), *PASE_KEY.split("."))


def convert_pase(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a checkpoint: `config` from the JSON file beside it, and `weights`.

    Absent options have the reference's defaults.

    Raises:
        CheckpointError: It is of a variant that is not implemented.
    """
    options = Options(payload["config"], "the PASE config")
    options.refuse_unknown((*READ_OPTIONS, *ONLY_VALUES, *TRAINING_OPTIONS))
    for name, value in ONLY_VALUES.items():
        options.demand(name, value, "other variants are not implemented")
    if any(dilation != 1 for dilation in options.get("dilations", list[int], [])):
        raise options.error("has dilations other than 1, which are not implemented")
    weights = state_dict(payload["weights"], "the weights")
    spec = family.formats["pase"]
    config = build_config(lambda: _pase_config(options))
    return Converted(config, weights, KeyMap(spec.keys, spec.unused))


def _pase_config(options: Options) -> PaseConfig:
    embedding_dim = options.get("emb_dim", int, 256)
    has_rnn = options.get("rnn_pool", bool, False)
    rnn_dim = options.get("rnn_dim", int, embedding_dim) if has_rnn else None
    merges: tuple[Literal["sum", "concat"], ...] = ("sum", "concat")
    merge = options.choice("densemerge", merges, "sum")
    return PaseConfig(
        kernel_sizes=options.get("kwidths", tuple[int, ...], (251, 10, 5, 5, 5, 5, 5, 5)),
        strides=options.get("strides", tuple[int, ...], (1, 10, 2, 1, 2, 1, 2, 2)),
        block_dims=options.get("fmaps", tuple[int, ...], (64, 64, 128, 128, 256, 256, 512, 512)),
        embedding_dim=embedding_dim,
        rnn_dim=rnn_dim,
        num_rnn_layers=options.get("rnn_layers", int, 1),
        rnn_dropout=options.get("rnn_dropout", float, 0.0),
        skip_merge=merge if options.get("denseskips", bool, False) else None,
        normalizes_output=options.get("norm_out", bool, False),
    )


def matches_cpc(content: Mapping[str, Any]) -> bool:
    weights = content.get("weights")
    return (
        content.get("config") is not None
        and isinstance(weights, Mapping)
        and has_part(weights, "gEncoder")
    )


def convert_cpc(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a CPC checkpoint; absent options have the reference's defaults.

    Raises:
        CheckpointError: It is of a variant with another encoder or another context network.
    """
    spec = family.formats["cpc-audio"]
    options = Options(as_mapping(payload["config"]), "config")
    check_demands(spec.demands, options)
    config = read_config(family.config_type(), spec.fields, options)
    return Converted(
        config, state_dict(payload["weights"], "weights"), KeyMap(spec.keys, spec.unused)
    )


WHISPER = "openai-whisper"
"""Name of the format of OpenAI's files, in messages and in data files."""


WHISPER_FFN_FACTOR = 4
"""Width of Whisper's feed-forward part as a multiple of its own, in the authors' code."""


def matches_whisper(content: Mapping[str, Any]) -> bool:
    dims, weights = content.get("dims"), content.get("model_state_dict")
    return isinstance(dims, Mapping) and isinstance(weights, Mapping)


def convert_whisper(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a file of OpenAI's, float16 in part, which are computed in float32.

    Raises:
        CheckpointError: A dimension is absent, or not one that the authors' code takes.
    """
    spec = family.formats[WHISPER]
    options = Options(as_mapping(payload["dims"]), "dims")
    check_demands(spec.demands, options)
    given = {"ffn_size": WHISPER_FFN_FACTOR * options.require("n_audio_state", int)}
    config = read_config(family.config_type(), spec.fields, options, given)
    weights = in_float32(state_dict(payload["model_state_dict"], "model_state_dict"))
    return Converted(config, weights, KeyMap(spec.keys, spec.unused))


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


def matches_npc(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout `npc-repo`."""
    sections = [content.get(name) for name in ("config", "model")]
    return all(isinstance(one, Mapping) for one in sections) and "model" in content["config"]


def npc_families(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The family of a checkpoint, as the one entry of a tuple.

    Raises:
        CheckpointError: Its method is none of the three.
    """
    if "weights" in payload:
        return (METHODS[npc_method(payload["weights"]) or "apc"],)
    model = Options(payload["config"], "config").section("model")
    name = model.choice("method", tuple(METHODS), None)
    if name == "apc" and "vq" in model.section("paras"):
        return ("vq_apc",)
    return (METHODS[name],)


def convert_npc(payload: Mapping[str, Any], family: Family) -> Converted:
    """Config and weights of a checkpoint of APC, VQ-APC or NPC.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    spec = family.formats[SPEC]
    audio, model, weights = npc_sections(payload)
    paras = model.section("paras")
    options = [field.option.split(".") for field in spec.fields.values() if field.option]
    paras.refuse_unknown(list(dict.fromkeys(one[1] for one in options if one[0] == "paras")))
    given: dict[str, Any] = {"features": build_config(lambda: fbank_config(audio))}
    config_type = family.config_type()
    if "codebooks" in config_type.__struct_fields__:
        given["codebooks"] = build_config(lambda: codebooks(paras))
    config = read_config(config_type, spec.fields, model, given)
    return Converted(config, weights, KeyMap(spec.keys, spec.unused))


def npc_sections(payload: Mapping[str, Any]) -> tuple[Options, Options, dict[str, Tensor]]:
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


def npc_method(weights: Mapping[str, object]) -> str | None:
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
    kind = npc_method(weights)
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
