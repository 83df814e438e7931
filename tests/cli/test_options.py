from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
import torch

import auricle
from auricle.__main__ import build_parser
from auricle.catalogue.record import DEFAULT_MODEL
from auricle.cli.options import (
    check_folder,
    choose_model,
    configuration,
    layer_argument,
    load_encoder,
)
from auricle.errors import AuricleError, CheckpointError, OutputError


def load_as(*options: str) -> auricle.Encoder:
    arguments = build_parser("1").parse_args(["plot", "a.wav", "--out", "o", *options])
    return load_encoder(arguments)


def test_options_reach_the_encoder(tera_checkpoint: Path) -> None:
    encoder = load_as(
        "--model", "tera", "--checkpoint", str(tera_checkpoint), "--precision", "bf16"
    )
    assert encoder.family == "tera"
    assert encoder.dtype == torch.bfloat16
    assert encoder.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("normalize=false", {"normalize": False}),
        ("a.b=1, a.c.d=povey,e=null", {"a": {"b": 1, "c": {"d": "povey"}}, "e": None}),
        ("x=a=b", {"x": "a=b"}),
        ("https://a.b/c.json?d=e", "https://a.b/c.json?d=e"),
        ("PASE+.cfg", Path("PASE+.cfg")),
    ],
)
def test_a_configuration_is_fields_or_a_place(text: str, expected: object) -> None:
    assert configuration(text) == expected


def test_a_file_with_an_equals_sign_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b").touch()
    assert configuration("a=b") == Path("a=b")


@pytest.mark.parametrize("text", ["a=", "=1", "a..b=1", "a=1,b", "a=1,a=2", "a=1,a.b=2"])
def test_fields_that_are_no_pairs_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="FIELD=VALUE"):
        configuration(text)


def test_changed_fields_reach_the_encoder() -> None:
    encoder = load_as("--model", "tera_mini", "--config", "features.cmvn=false")
    assert encoder.info.changed_config == {"features": {"cmvn": False}}


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AuricleError, match="cannot use device 'toaster'"):
        load_as("--model", "fbank", "--device", "toaster")


def test_a_checkpoint_of_another_family_is_refused(tera_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError):
        load_as("--model", "apc", "--checkpoint", str(tera_checkpoint))


@pytest.mark.parametrize(
    ("text", "layer"),
    [(None, None), ("2", 2), ("-1", -1), ("all", "all"), ("layer_1", "layer_1"), ("-x", "-x")],
)
def test_a_layer_is_an_index_where_it_looks_like_one(
    text: str | None, layer: int | str | None
) -> None:
    assert layer_argument(text) == layer


def test_without_a_model_the_embedded_one_is_taken_and_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = build_parser("1").parse_args(["extract", "a.wav", "--out", "o"])
    choose_model(arguments)
    assert arguments.model == DEFAULT_MODEL
    assert capsys.readouterr().err == (
        f"auricle: using {DEFAULT_MODEL} (bundled toy model); choose with --model (`auricle list` "
        "shows published models)\n"
    )
    choose_model(arguments)
    assert capsys.readouterr().err == ""


def test_a_checkpoint_needs_a_model() -> None:
    arguments = build_parser("1").parse_args(
        ["extract", "a.wav", "--out", "o", "--checkpoint", "c"]
    )
    with pytest.raises(AuricleError, match="--model PATH"):
        choose_model(arguments)


def test_a_folder_that_is_or_can_be_made_is_right_and_not_made(tmp_path: Path) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_folder(Path("new"))
    check_folder(Path())


@pytest.mark.parametrize("name", ["file", "file/below", "file/far/below"])
def test_a_file_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file; choose another folder"):
        check_folder(tmp_path / name)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(OutputError, match="no permission for"):
        check_folder(tmp_path / "new")


def test_a_name_that_no_file_system_takes(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write to"):
        check_folder(tmp_path / ("x" * 5000))
