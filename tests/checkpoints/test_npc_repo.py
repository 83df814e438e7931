from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import auricle
from auricle.checkpoints.npc_repo import codebooks, fbank_config, gumbel_temperature
from auricle.checkpoints.options import Options
from auricle.errors import CheckpointError
from auricle.frontends import FbankConfig
from auricle.nn.quantizer import CodebookConfig
from golden_cases import GoldenCase

AUDIO = {"feat_type": "fbank", "feat_dim": 40, "frame_length": 20, "frame_shift": 12.5}


def test_the_front_end_is_hamming_and_normalised_unless_told_otherwise() -> None:
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
    assert gumbel_temperature(paras, 1.0) == 0.7
    assert codebooks(Options({"vq": None}, "paras")) == ()
    with pytest.raises(CheckpointError, match="lists 1 codebook_size but 2 code_dim"):
        codebooks(Options({"vq": {"codebook_size": [8], "code_dim": [1, 2]}}, "paras"))


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
    told = auricle.load(other_path, config=other_whole["config"])
    assert narrow.deviation(told) <= narrow.limit
    untold: Any = auricle.load(other_path)
    assert untold.config.bottleneck_dim == 12
    assert untold.config.mask_size == other_whole["config"]["model"]["paras"]["mask_size"]
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
