from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import auricle
from auricle.__main__ import main

SaveWave = Callable[..., Path]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    encoder = auricle.load("apc_mini", device="cpu")
    info = encoder.layer_info(None)
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "units.safetensors"
    auricle.Units(
        centroids=torch.randn(1, 6, info.dim, generator=generator),
        layer=info.name,
        model="apc_mini",
        family=encoder.family,
        weights_digest="0" * 64,
    ).save(path)
    return path


def extract_as(*arguments: Path | str) -> int:
    return main(["extract", *map(str, arguments)])


def test_units_as_text(
    units: Path, save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_wave("in/a.wav", 9000)
    out = tmp_path / "out"
    options = ["--units", units, "--other-weights", "--deduplicate", "--format", "text"]
    assert extract_as(tmp_path / "in", *options, "--out", out) == 0
    captured = capsys.readouterr()
    assert captured.err == ""  # the model is that of the units, and none was guessed
    assert captured.out.splitlines()[-1] == f"as text: {out}/units.txt"
    (line,) = (out / "units.txt").read_text().splitlines()
    found = auricle.open(out).get("a", layer="units")[:, 0].tolist()
    assert line == f"a {' '.join(map(str, found))}"
    assert (out / "durations.txt").read_text().startswith("a ")


def test_codes_of_a_quantiser_as_text(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_wave("in/a.wav", 9000)
    out = tmp_path / "out"
    options = ["--model", "vq_apc_mini", "--codes", "--format", "text", "--out", out]
    assert extract_as(tmp_path / "in", *options) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"as text: {out}/codes.txt"
    assert len((out / "codes.txt").read_text().split(" ")) > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "other weights"),
        (["--model", "fbank"], "of apc_mini"),
        (["--other-weights", "--layer", "rnn_1"], "but layers= (--layer) names rnn_1"),
        (["--other-weights", "--final-norm", "strip"], "(--final-norm) is 'strip'"),
        (["--pool", "mean"], "frame by frame"),
    ],
)
def test_what_contradicts_the_units_is_refused(
    units: Path,
    save_wave: SaveWave,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_wave("in/a.wav", 9000)
    arguments = [tmp_path / "in", "--units", units, *options, "--out", tmp_path / "out"]
    assert extract_as(*arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_of_units_that_is_not_there_is_named(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_wave("in/a.wav", 9000)
    arguments = [tmp_path / "in", "--units", tmp_path / "no.safetensors", "--out", tmp_path / "out"]
    assert extract_as(*arguments) == 1
    assert "no.safetensors" in capsys.readouterr().err
