from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from auricle.__main__ import COMMANDS, build_parser, main
from auricle.cli import extract

EXTRACT = ["extract", "a.wav", "--model", "m", "--out", "o"]


@pytest.mark.parametrize("command", list(COMMANDS))
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
    [
        EXTRACT,
        ["list"],
        ["info", "m"],
        ["plot", "a.wav", "--model", "m", "--out", "p"],
        ["demo"],
        ["check", "m"],
        ["convert", "a.pt", "--out", "b"],
        ["export", "m", "--to", "transformers", "dir"],
        ["verify"],
        ["cache", "path"],
        ["cache", "remove", "m"],
        ["pretrain", "r.toml", "--data", "d", "--out", "o"],
        ["probe", "--model", "m", "--task", "phones", "--data", "d"],
        ["units", "info", "u.safetensors"],
    ],
)
def test_every_command_runs_its_own_module(arguments: list[str]) -> None:
    assert build_parser("1").parse_args(arguments).run == COMMANDS[arguments[0]].run


def test_what_extract_takes_by_default() -> None:
    arguments = build_parser("1").parse_args(EXTRACT)
    assert arguments.inputs == ["a.wav"]
    assert arguments.out == "o"
    assert (arguments.layer, arguments.channel, arguments.checkpoint) == (None, None, None)
    assert (arguments.format, arguments.device) == ("store", ["auto"])
    assert (arguments.dtype, arguments.precision) == ("float32", "float32")
    assert (arguments.short, arguments.on_error, arguments.engine) == ("error", "report", "local")


def test_what_extract_repeats_of_the_library_is_current() -> None:
    from auricle.corpus.listing import LISTERS
    from auricle.extraction import plan
    from auricle.extraction.extract import DEFAULT_OVERLAP_SECONDS
    from auricle.extraction.writers import FORMAT_NAMES

    assert extract.BATCH_SECONDS == plan.DEFAULT_BATCH_SECONDS
    assert extract.OVERLAP_SECONDS == DEFAULT_OVERLAP_SECONDS
    assert extract.SHARD_MIB << 20 == plan.DEFAULT_SHARD_BYTES
    assert FORMAT_NAMES == extract.FORMATS
    assert tuple(LISTERS) == extract.INPUT_FORMATS


def test_what_extract_keeps_may_be_several() -> None:
    options = ["--layer", "0,hidden_9", "--weights=-0.5,2", "--device", "cuda:0,cuda:1"]
    arguments = build_parser("1").parse_args([*EXTRACT, *options])
    assert arguments.layer == ["0", "hidden_9"]
    assert arguments.weights == [-0.5, 2.0]
    assert arguments.device == ["cuda:0", "cuda:1"]


def test_a_checkpoint_may_be_a_url() -> None:
    parse = build_parser("1").parse_args
    assert parse([*EXTRACT, "--checkpoint", "https://h/x"]).checkpoint == "https://h/x"
    assert parse([*EXTRACT, "--checkpoint", "a/x.pt"]).checkpoint == Path("a/x.pt")


def test_what_export_takes() -> None:
    arguments = build_parser("1").parse_args(["export", "m", "--to", "transformers", "dir"])
    assert (arguments.model, arguments.to, arguments.out) == ("m", "transformers", Path("dir"))


def test_a_negative_layer_is_a_value() -> None:
    assert build_parser("1").parse_args([*EXTRACT, "--layer", "-1"]).layer == ["-1"]


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
        ("--layer", "1,,2", "commas"),
        ("--weights", "1,half", "numbers"),
        ("--actors", "0", "from 1"),
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


@pytest.mark.parametrize(
    "arguments",
    [EXTRACT, ["info", "m"], ["check", "m"], ["convert", "a.pt", "--out", "b"]],
)
def test_what_is_cached_can_be_refreshed(arguments: list[str]) -> None:
    parse = build_parser("1").parse_args
    assert not parse(arguments).refresh
    assert parse([*arguments, "--refresh"]).refresh


def test_what_commands_about_the_cache_take() -> None:
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
    [["convert", "a.pt"], ["cache", "remove", "--originals", "--converted"]],
)
def test_wrong_usage_of_commands_about_the_cache(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leave:
        build_parser("1").parse_args(arguments)
    assert leave.value.code == 2
    assert "usage: auricle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["extrct", "a.wav"], "did you mean extract?"),
        ([*EXTRACT, "--batchseconds", "3"], "did you mean --batch-seconds?"),
        ([*EXTRACT, "--formt=npy"], "did you mean --format?"),
        ([*EXTRACT, "--modle", "streamin"], "did you mean --model?"),
        (["extract", "a.wav", "--ouut", "o"], "required: --out; did you mean --out?"),
        ([*EXTRACT, "--format", "npyy"], "did you mean npy?"),
        (["units", "inf", "u"], "did you mean info?"),
        (["cache", "remove", "m", "--yess"], None),
        (["list", "--qqq"], None),
    ],
)
def test_a_mistyped_word_gets_the_one_that_is_close(
    arguments: list[str], hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leave:
        build_parser("1").parse_args(arguments)
    assert leave.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(hint) if hint else "did you mean" not in error


def test_compression_without_a_value_is_that_of_kaldi() -> None:
    assert build_parser("1").parse_args([*EXTRACT, "--compress"]).compress == "auto"
    assert build_parser("1").parse_args(EXTRACT).compress is None


def test_completion_is_printed_by_shtab(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shtab = types.ModuleType("shtab")
    shtab.complete = lambda parser, shell: f"{shell} of {parser.prog}"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shtab", shtab)
    with pytest.raises(SystemExit) as leave:
        main(["--print-completion", "zsh"])
    assert leave.value.code == 0
    assert capsys.readouterr().out == "zsh of auricle\n"
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "zsh"]) == 1
    assert "shell completion needs shtab" in capsys.readouterr().err
