from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import auricle
from auricle.__main__ import main
from auricle.files.atomic import file_sha256
from golden_cases import GoldenCase


def test_a_file_becomes_one_of_our_own(
    tmp_path: Path, tera_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tera.safetensors"
    assert main(["convert", str(tera_checkpoint), "--out", str(out)]) == 0
    assert f"wrote {out}: tera, family tera" in capsys.readouterr().out
    encoder, direct = auricle.load(out), auricle.load(tera_checkpoint)
    assert encoder.info.sha256 == file_sha256(tera_checkpoint)
    for name, weight in direct.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], weight)


def test_type_family_and_configuration(tmp_path: Path, tera_checkpoint: Path) -> None:
    out = tmp_path / "out.safetensors"
    pase = GoldenCase("pase").checkpoints[0]
    (config,) = pase.parent.glob("*.cfg")
    options = ["--model", "pase", "--config", str(config), "--dtype", "bfloat16"]
    assert main(["convert", str(pase), "--out", str(out), *options]) == 0
    assert auricle.load(out).family == "pase"
    assert out.stat().st_size < pase.stat().st_size * 0.7


def test_adapters_are_left_out_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(GoldenCase("hf_hubert_base").folder / "hf", tmp_path / "model"))
    (model / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    arguments = ["convert", str(model), "--out", str(tmp_path / "out.safetensors")]
    assert main(arguments) == 1
    assert "pass without_adapters=True" in capsys.readouterr().err
    assert main([*arguments, "--without-adapters"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.pt"], "ends in .safetensors"),
        (["--out", "x.safetensors", "--model", "apc"], "not of apc"),
        (["--out", "/dev/null/x.safetensors"], "cannot write"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    tera_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(tera_checkpoint), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
