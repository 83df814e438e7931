from __future__ import annotations

from pathlib import Path

import pytest
import torch

import auricle
from auricle.catalogue.record import DEFAULT_MODEL
from auricle.cli.encoders import choose_model, layer_argument, load_encoder
from auricle.cli.parser import build_parser
from auricle.errors import AuricleError, CheckpointError


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
    notice = capsys.readouterr().err
    assert DEFAULT_MODEL in notice
    assert "auricle list" in notice
    choose_model(arguments)
    assert capsys.readouterr().err == ""


def test_a_checkpoint_needs_a_model() -> None:
    arguments = build_parser("1").parse_args(
        ["extract", "a.wav", "--out", "o", "--checkpoint", "c"]
    )
    with pytest.raises(AuricleError, match="--model PATH"):
        choose_model(arguments)
