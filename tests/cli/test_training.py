from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from auricle.__main__ import build_parser, main
from auricle.objectives.base import Loss
from auricle.objectives.predictive_coding import ApcObjective

RECIPE = """
[recipe]
name = "tiny"
family = "apc"
steps = 6

[encoder]
num_layers = 1
hidden_size = 8

[data]
batch_seconds = 1.0

[optimizer]
learning_rate = 1e-3
"""


@pytest.fixture
def command(tmp_path: Path, save_wave: Any) -> list[str]:
    """A training of six steps on noise, as arguments; it writes to `out`."""
    for index in range(3):
        save_wave(f"audio/{index}.wav", 6_000 + index)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    paths = {name: str(tmp_path / name) for name in ("recipe.toml", "audio", "out")}
    arguments = ["pretrain", paths["recipe.toml"], "--data", paths["audio"], "--out", paths["out"]]
    return [*arguments, "--device", "cpu", "--workers", "0"]


def test_it_writes_an_encoder_that_commands_take(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--steps", "2"]) == 0
    result = tmp_path / "out" / "tiny.safetensors"
    written, losses = capsys.readouterr().out.splitlines()
    assert written == f"wrote {result} after 2 steps"
    curves = re.escape(str(tmp_path / "out" / "curves.png"))
    assert re.fullmatch(rf"loss \d+\.\d{{4}} \(up to step 2\); curves: {curves}", losses)
    assert main(["info", str(result)]) == 0
    assert "tiny" in capsys.readouterr().out
    audio = str(tmp_path / "audio" / "0.wav")
    assert main(["extract", audio, "--model", str(result), "--out", str(tmp_path / "npy")]) == 0


@pytest.mark.usefixtures("undrawn_curves")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_after_a_checkpoint(
    command: list[str],
    tmp_path: Path,
    number: signal.Signals,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forward = ApcObjective.forward

    def interrupted(self: ApcObjective, *arguments: Any, **options: Any) -> Loss:
        if options["step"] == 2:
            os.kill(os.getpid(), number)
        return forward(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ApcObjective, "forward", interrupted)
        assert main(command) == status
    assert "stopped after step 3 of 6; run the same command to resume" in capsys.readouterr().out
    assert (tmp_path / "out" / "checkpoints" / "step_00000003").is_dir()
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "after 6 steps" in out
    assert re.search(r"loss from \S+ \(up to step 3\) to \S+ \(up to step 6\); curves", out)
    assert load_file(tmp_path / "out" / "tiny.safetensors")


def test_errors_are_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("steps = 6", "steps = -6"))
    assert main(command) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("auricle: error: ")
    assert "steps must be at least 1" in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_shows_purpose_options_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        build_parser("1").parse_args(["pretrain", "--help"])
    assert leave.value.code == 0
    assert "\n  auricle pretrain" in capsys.readouterr().out.partition("example")[2]


@pytest.mark.parametrize("option", ["--steps=0", "--steps=x", "--workers=-1", "--device=tpu"])
def test_values_out_of_range_are_usage_errors(command: list[str], option: str) -> None:
    with pytest.raises(SystemExit) as leave:
        main([*command, option])
    assert leave.value.code == 2
