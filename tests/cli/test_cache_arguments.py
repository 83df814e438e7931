from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from auricle.cli.parser import build_parser


@pytest.mark.parametrize("command", ["convert", "verify", "cache"])
def test_help_shows_purpose_and_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leave:
        build_parser("1").parse_args([command, "--help"])
    assert leave.value.code == 0
    assert f"\n  auricle {command}" in capsys.readouterr().out.partition("example")[2]


@pytest.mark.parametrize(
    "arguments",
    [["convert", "a.pt", "--out", "b"], ["verify"], ["cache", "path"], ["cache", "remove", "m"]],
)
def test_every_command_names_the_module_that_runs_it(arguments: list[str]) -> None:
    assert find_spec(build_parser("1").parse_args(arguments).module)


def test_what_they_take() -> None:
    parse = build_parser("1").parse_args
    convert = parse(["convert", "a.pt", "--out", "b.safetensors"])
    assert (convert.checkpoint, convert.out) == ("a.pt", Path("b.safetensors"))
    assert (convert.model, convert.config, convert.dtype) == (None, None, "float32")
    assert parse(["verify", "a", "b"]).names == ["a", "b"]
    remove = parse(["cache", "remove", "--originals"])
    assert (remove.name, remove.all, remove.originals, remove.converted) == (
        None, False, True, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [["convert", "a.pt"], ["cache"], ["cache", "remove", "--originals", "--converted"]],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        build_parser("1").parse_args(arguments)
    assert leave.value.code == 2
    assert "usage: auricle" in capsys.readouterr().err
