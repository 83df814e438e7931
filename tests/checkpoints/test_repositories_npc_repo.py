from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import auricle
from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.keymap import KeyMap
from auricle.checkpoints.options import Options
from auricle.checkpoints.repositories import codebooks, convert_npc, fbank_config
from auricle.errors import CheckpointError
from auricle.frontends import FbankConfig
from auricle.models.npc import NpcConfig
from auricle.models.predictive_coding import ApcConfig, VqApcConfig
from auricle.nn.quantizer import CodebookConfig
from golden_cases import GoldenCase

AUDIO = {"feat_type": "fbank", "feat_dim": 40, "frame_length": 20, "frame_shift": 12.5}


def test_the_front_end_is_hamming_and_normalised_by_default() -> None:
    expected = FbankConfig(
        num_mels=40, frame_length_ms=20, frame_shift_ms=12.5, window="hamming", cmvn=True
    )
    assert fbank_config(Options({**AUDIO, "decode_wav": True}, "audio")) == expected
    plain = fbank_config(Options({**AUDIO, "cmvn": False}, "audio"))
    assert plain.cmvn is False


def test_other_features_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"audio\.feat_type must be 'fbank'"):
        fbank_config(Options({**AUDIO, "feat_type": "mfcc"}, "audio"))
    with pytest.raises(CheckpointError, match="not known: speed"):
        fbank_config(Options({**AUDIO, "speed": 2}, "audio"))


def test_codebooks() -> None:
    vq = {"codebook_size": [8, 4], "code_dim": [16, 2], "gumbel_temperature": 0.7}
    paras = Options({"vq": vq}, "paras")
    assert codebooks(paras) == (
        CodebookConfig(num_entries=8, dim=16),
        CodebookConfig(num_entries=4, dim=2),
    )
    assert codebooks(Options({"vq": None}, "paras")) == ()
    with pytest.raises(CheckpointError, match="lists 1 codebook_size but 2 code_dim"):
        codebooks(Options({"vq": {"codebook_size": [8], "code_dim": [1, 2]}}, "paras"))


APC_AUDIO = {**AUDIO, "frame_length": 25, "frame_shift": 10, "cmvn": False}
NPC_PARAS = {
    "kernel_size": 11,
    "mask_size": 3,
    "n_blocks": 2,
    "hidden_size": 8,
    "dropout": 0.3,
    "residual": False,
}


def apc_payload(**paras: Any) -> dict[str, Any]:
    paras = {"num_layers": 5, "hidden_size": 16, "dropout": 0.2, "residual": False, **paras}
    model = {"method": "apc", "n_future": 3, "paras": paras}
    return {
        "config": {"data": {"audio": APC_AUDIO}, "model": model},
        "model": {"w": torch.ones(1)},
    }


def read(family: str, **paras: Any) -> Any:
    """The config that options of a family make."""
    audio = {"feat_type": "fbank", "feat_dim": 80}
    payload = {"config": {"data": {"audio": audio}, "model": {"paras": paras}}, "model": {}}
    return convert_npc(payload, FAMILIES[family]).config


def test_every_option_of_apc_is_read() -> None:
    converted = convert_npc(apc_payload(), FAMILIES["apc"])
    assert converted.config == ApcConfig(
        features=FbankConfig(num_mels=40, window="hamming", cmvn=False),
        num_layers=5,
        hidden_size=16,
        dropout=0.2,
        residual=False,
        num_future=3,
    )
    assert list(converted.weights) == ["w"]


def test_unknown_or_missing_options_of_apc_are_refused() -> None:
    for paras, reason in (
        ({"bidirectional": True}, "not known: bidirectional"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"num_layers": 0}, "does not hold: .* but has 0"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            convert_npc(apc_payload(**paras), FAMILIES["apc"])


def test_the_prediction_head_belongs_to_pretraining() -> None:
    spec = FAMILIES["apc"].formats["npc-repo"]
    keys = ("postnet.weight", "vq_layers.0.vq_logits.bias")
    found = KeyMap(spec.keys, spec.unused).locate(dict.fromkeys(keys, torch.ones(1)), {})
    assert (found.dropped, found.unfamiliar) == (keys, keys[1:])


def test_the_quantiser_of_vq_apc_is_read() -> None:
    paras = {"num_layers": 2, "hidden_size": 16, "residual": True}
    vq = {"codebook_size": [4, 6], "code_dim": [10, 6], "gumbel_temperature": 0.9}
    config = read("vq_apc", vq=vq, **paras)
    assert isinstance(config, VqApcConfig)
    assert config.codebooks == (
        CodebookConfig(num_entries=4, dim=10),
        CodebookConfig(num_entries=6, dim=6),
    )
    assert config.gumbel_temperature == 0.9
    assert config.num_future == 5
    without = read("vq_apc", vq=None, **paras)
    assert (without.codebooks, without.gumbel_temperature) == ((), 0.5)
    with pytest.raises(CheckpointError, match="must add up to 16, but add up to 10"):
        read("vq_apc", vq={"codebook_size": [4], "code_dim": [10]}, **paras)
    with pytest.raises(CheckpointError, match="not known: ema"):
        read("vq_apc", vq={"codebook_size": [4], "code_dim": [16], "ema": True}, **paras)


def test_options_of_npc_and_their_defaults() -> None:
    assert read("npc", **NPC_PARAS) == NpcConfig(
        kernel_size=11,
        mask_size=3,
        num_blocks=2,
        hidden_size=8,
        dropout=0.3,
        residual=False,
        codebooks=(),
    )
    options = {"batch_norm": False, "activate": "tanh", "disable_cross_layer": True}
    other = read("npc", **NPC_PARAS, **options, dim_bottleneck=4)
    assert (other.batch_norm, other.activation, other.cross_layer, other.bottleneck_dim) == (
        False,
        "tanh",
        False,
        4,
    )
    assert read("npc", **NPC_PARAS, dim_bottleneck=0).bottleneck_dim is None
    quantised = read("npc", **NPC_PARAS, vq={"codebook_size": [2, 2], "code_dim": [4, 4]})
    assert len(quantised.codebooks) == 2


@pytest.mark.parametrize(
    ("paras", "reason"),
    [
        ({"activate": "elu"}, "activate must be one of relu, tanh"),
        ({"kernel_size": 7}, "must leave taps"),
        ({"stride": 2}, "not known: stride"),
        ({"mask_size": None}, "lacks mask_size"),
    ],
)
def test_options_of_npc_that_are_not_implemented(paras: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read("npc", **{**NPC_PARAS, **paras})


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["apc", "vq_apc", "npc"])
def test_weights_alone_are_the_encoder_where_its_other_options_are_the_published_ones(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = GoldenCase(name)
    whole: dict[str, Any] = torch.load(case.checkpoints[0], weights_only=False)
    for content in (
        whole["model"],
        {"model": whole["model"], "optimizer": {"state": {}}, "epoch": 1, "loss": 0.5},
        {"module." + key: weight for key, weight in whole["model"].items()},
    ):
        with caplog.at_level(logging.WARNING):
            encoder = auricle.load(saved(tmp_path / "weights.pth", content))
        assert "no configuration: widths are those of its weights" in caplog.text
        caplog.clear()
        assert encoder.family == case.family
        assert case.deviation(encoder) <= case.limit


def test_a_configuration_that_is_given_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = GoldenCase("apc")
    whole: dict[str, Any] = torch.load(case.checkpoints[0], weights_only=False)
    path = saved(tmp_path / "weights.pth", whole["model"])
    encoder = auricle.load(path, config=whole["config"])
    assert not caplog.records
    assert case.deviation(encoder) <= case.limit
    narrow = GoldenCase("npc_bottleneck")
    other_whole: dict[str, Any] = torch.load(narrow.checkpoints[0], weights_only=False)
    other_path = saved(tmp_path / "narrow.pth", other_whole["model"])
    given = auricle.load(other_path, config=other_whole["config"])
    assert narrow.deviation(given) <= narrow.limit
    without: Any = auricle.load(other_path)
    assert without.config.bottleneck_dim == 12
    assert without.config.mask_size == other_whole["config"]["model"]["paras"]["mask_size"]
    own = {"model": {"paras": {"residual": False}}, "data": {"audio": {"cmvn": False}}}
    other = auricle.load(path, config=own)
    assert other.config != encoder.config
    assert other.config == type(encoder.config)(
        features=FbankConfig(window="hamming", cmvn=False), hidden_size=32, residual=False,
        dropout=0.0,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="not known: bidirectional"):
        auricle.load(path, config={"model": {"paras": {"bidirectional": True}}})
    with pytest.raises(
        CheckpointError, match="config has options whose effect is not known: residual"
    ):
        auricle.load(path, config={"residual": False})


def test_the_names_of_apc_s_first_repository(tmp_path: Path) -> None:
    case = GoldenCase("apc")
    whole: dict[str, Any] = torch.load(case.checkpoints[0], weights_only=False)
    first = {key.replace("rnn_layers", "rnns"): weight for key, weight in whole["model"].items()}
    first["postnet.layer.weight"] = first.pop("postnet.weight")[:, :, None]
    first["postnet.layer.bias"] = first.pop("postnet.bias")
    path = saved(tmp_path / "bs32-rhl3-rhs32-rd0-adam-res-ts3.pt", first)
    encoder = auricle.load(path)
    assert case.deviation(encoder) <= case.limit
    assert set(encoder.unused_keys) == {"postnet.layer.weight", "postnet.layer.bias"}
    with pytest.raises(CheckpointError, match="has a prenet"):
        auricle.load(saved(path, {**first, "prenet.layers.0.weight": torch.ones(1)}))
