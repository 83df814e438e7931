from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from auricle.cli.parser import build_parser

EXTRACT = ["extract", "a.wav", "--model", "m", "--out", "o"]


@pytest.mark.parametrize("command", ["extract", "list", "info", "plot", "export", "demo"])
def test_help_shows_purpose_options_and_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leave:
        build_parser("1").parse_args([command, "--help"])
    assert leave.value.code == 0
    text = capsys.readouterr().out
    assert "options:" in text
    assert f"\n  auricle {command}" in text.partition("example")[2]


@pytest.mark.parametrize(
    "arguments",
    [EXTRACT, ["list"], ["info", "m"], ["plot", "a.wav", "--model", "m", "--out", "p"], ["demo"]],
)
def test_every_command_names_the_module_that_runs_it(arguments: list[str]) -> None:
    assert find_spec(build_parser("1").parse_args(arguments).module)


def test_what_extract_takes_by_default() -> None:
    arguments = build_parser("1").parse_args(EXTRACT)
    assert arguments.inputs == ["a.wav"]
    assert arguments.out == Path("o")
    assert (arguments.layer, arguments.channel, arguments.checkpoint) == (None, None, None)
    assert (arguments.format, arguments.device, arguments.dtype) == ("npy", "cpu", "float32")
    assert (arguments.short, arguments.batch_seconds) == ("error", 120.0)


def test_a_checkpoint_may_be_a_url() -> None:
    parse = build_parser("1").parse_args
    assert parse([*EXTRACT, "--checkpoint", "https://h/x"]).checkpoint == "https://h/x"
    assert parse([*EXTRACT, "--checkpoint", "a/x.pt"]).checkpoint == Path("a/x.pt")


def test_what_export_takes() -> None:
    arguments = build_parser("1").parse_args(["export", "m", "--to", "transformers", "dir"])
    assert (arguments.model, arguments.to, arguments.out) == ("m", "transformers", Path("dir"))
    assert find_spec(arguments.module)


def test_a_negative_layer_is_a_value() -> None:
    assert build_parser("1").parse_args([*EXTRACT, "--layer", "-1"]).layer == "-1"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--batch-seconds", "0", "above 0"),
        ("--batch-seconds", "nan", "above 0"),
        ("--batch-seconds", "inf", "above 0"),
        ("--batch-seconds", "long", "above 0"),
        ("--channel", "-1", "whole number"),
        ("--channel", "left", "whole number"),
        ("--format", "mat", "npy"),
        ("--dtype", "int8", "float16"),
    ],
)
def test_values_out_of_range_are_refused(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leave:
        build_parser("1").parse_args([*EXTRACT, f"{option}={value}"])
    assert leave.value.code == 2
    assert message in capsys.readouterr().err
