"""Format `npc-repo`: checkpoints of APC, VQ-APC and NPC as their joint repository writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.convert.kaldi import fbank_fields
from auricle.convert.options import Options
from auricle.frontends import FbankConfig
from auricle.nn.quantizer import CodebookConfig

RECURRENT_KEYS = (("rnn_layers.{i}.{rest}", "rnn.layers.{i}.{rest}"),)
"""The GRU layers of APC and VQ-APC."""

QUANTIZER_KEYS = (
    ("vq_layers.{i}.vq_logits.{rest}", "quantizer.codebooks.{i}.logits.{rest}"),
    ("vq_layers.{i}.codebook_CxE.{rest}", "quantizer.codebooks.{i}.vectors.{rest}"),
)

PREDICTION_KEYS = ("postnet.{rest}",)
"""The linear layer that predicts frames; pretraining alone uses it."""


def sections(payload: Mapping[str, Any]) -> tuple[Options, Options, Options]:
    """Sections `config.data.audio`, `config.model` and `config.model.paras`."""
    config = Options(payload["config"], "config")
    model = config.section("model")
    return config.section("data").section("audio"), model, model.section("paras")


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


def gumbel_temperature(paras: Options, default: float) -> float:
    """The quantiser's temperature in pretraining, or `default` without a quantiser."""
    return paras.section("vq").get("gumbel_temperature", float, default)
