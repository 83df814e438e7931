from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auricle.__main__ import main
from auricle.models.base import Encoder
from auricle.nn.attention import attend
from golden_cases import GoldenCase

APC = GoldenCase("apc")


def saved(tmp_path: Path, encoder: Encoder) -> str:
    path = tmp_path / "model.safetensors"
    encoder.save(path)
    return str(path)


def test_a_sound_encoder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(APC.checkpoints[0])]) == 0
    output = capsys.readouterr().out
    assert "family apc" in output
    rows = [line.split() for line in output.splitlines() if line.startswith("rnn_")]
    assert [row[:3] for row in rows] == [[f"rnn_{k}", "98", "32"] for k in (1, 2, 3)]
    assert "PROBLEM" not in output
    assert "not used by the encoder: postnet.weight, postnet.bias" in output
    assert output.splitlines()[-1].startswith("passed:")


def test_columns_never_touch(capsys: pytest.CaptureFixture[str]) -> None:
    # Means of normalised features are as long as a number gets: -4.866e-09.
    assert main(["check", "tera_mini"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert [len(row) for row in rows] == [10, 9, 9, 9, 9]  # "batch diff" is two words
    assert all(float(cell) is not None for row in rows[1:] for cell in row[1:])


def test_baselines_and_named_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "fbank"]) == 0
    assert main(["check", "apc", "--checkpoint", str(APC.checkpoints[0])]) == 0
    assert main(["check", "fbank", "--precision", "bf16"]) == 0
    assert "PROBLEM" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "weight rnn.layers.1.weight_ih_l0 has NaN or infinity"),
        (0.0, "weight rnn.layers.1.weight_ih_l0 is all zeros"),
    ],
)
def test_broken_weights_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, problem: str
) -> None:
    encoder = APC.load()
    with torch.no_grad():
        encoder.get_parameter("rnn.layers.1.weight_ih_l0").fill_(value)
    assert main(["check", saved(tmp_path, encoder)]) == 1
    output = capsys.readouterr().out
    assert f"PROBLEM: {problem}" in output
    assert output.splitlines()[-1].startswith("failed:")


def test_a_constant_layer_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = GoldenCase("tera").load()
    with torch.no_grad():
        encoder.get_parameter("bert.layers.2.ffn_norm.weight").zero_()
    assert main(["check", saved(tmp_path, encoder)]) == 1
    assert "layer layer_3 is constant over all frames" in capsys.readouterr().out


def test_a_batch_that_matters_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Utterances of a batch that attend to each other.
    monkeypatch.setattr(
        "auricle.nn.attention.attend_packed",
        lambda query, key, value, *_: attend(query, key, value),
    )
    assert main(["check", str(GoldenCase("tera").checkpoints[0])]) == 1
    assert "standard deviations in a batch" in capsys.readouterr().out
