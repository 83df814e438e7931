"""Errors of an extraction name parameters of `auricle.extract`, and flags of the command with them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import auricle
from auricle.__main__ import build_parser
from auricle.errors import AudioError, AuricleError, ExtractionError, OutputError

SOURCES = Path(auricle.__file__).parent
FOLDERS = ("extraction", "store", "corpus")
OTHER_PROGRAMS = {"commands.py", "wav_scp.py"}
"""Files that read the flags of other programs."""

OF_PICTURES = {"utterance"}
"""Flags of `auricle plot` alone, in messages of the lister that it shares with `auricle extract`."""

FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")

PARAMETERS = {
    "actors": "num_actors",
    "device": "devices",
    "format": "output_format",
    "layer": "layers",
    "other-weights": "check_weights",
    "shard-mib": "shard_bytes",
    "short": "pad_short",
    "workers": "num_workers",
}
"""Flag of the command -> parameter of the function, where they are not called the same."""


def parameter_of(flag: str) -> str:
    return PARAMETERS.get(flag, flag.replace("-", "_"))


def flags_without_parameter(text: str) -> list[str]:
    """Flags in a message that does not say which parameter they are in Python."""
    return [flag for flag in FLAG.findall(text) if f"{parameter_of(flag)}=" not in text]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Strings of a file, but for docstrings: its messages among them."""
    tree = ast.parse(path.read_text())
    inside = {id(part) for node in ast.walk(tree) for part in parts_of(node)}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(getattr(part, "value", "{}") for part in parts_of(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def parts_of(node: ast.AST) -> list[ast.Constant]:
    """Constants of an f-string, and the docstring of an expression."""
    if isinstance(node, ast.JoinedStr):
        return [part for part in node.values if isinstance(part, ast.Constant)]
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return [node.value] if is_docstring else []  # type: ignore[union-attr]


def test_every_flag_in_a_message_stands_with_its_parameter() -> None:
    found = []
    for path in (path for folder in FOLDERS for path in (SOURCES / folder).rglob("*.py")):
        if path.name not in OTHER_PROGRAMS:
            found += [
                f"{path.relative_to(SOURCES)}:{line}: {text}"
                for line, text in texts(path)
                if flags_without_parameter(text)
            ]
    assert not found, "\n".join(found)


def test_parameters_and_flags_are_there() -> None:
    parameters = inspect.signature(auricle.extract).parameters
    for path in (path for folder in FOLDERS for path in (SOURCES / folder).rglob("*.py")):
        if path.name in OTHER_PROGRAMS:
            continue
        for _, text in texts(path):
            for flag in set(FLAG.findall(text)) - OF_PICTURES:
                assert parameter_of(flag) in parameters
                with pytest.raises(SystemExit):  # --help stops after a flag that is known
                    build_parser("0").parse_args(["extract", "a.wav", f"--{flag}", "--help"])


def test_flags_alone_are_found() -> None:
    assert flags_without_parameter("leave it out or pass --short pad") == ["short"]
    assert flags_without_parameter("pass pad_short=True (--short pad)") == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    soundfile.write(folder / "u.wav", np.sin(np.arange(8000) / 9), 16_000)
    return folder


def test_too_short_audio_names_the_parameter(folder: Path, tmp_path: Path) -> None:
    soundfile.write(folder / "v.wav", np.zeros(10), 16_000)
    assert auricle.extract(folder, tmp_path / "out", model="fbank").num_failed == 1
    text = (tmp_path / "out" / "errors.jsonl").read_text()
    assert "pad_short=True (--short pad)" in text


def test_a_run_that_stops_at_a_failure_names_the_parameter(folder: Path, tmp_path: Path) -> None:
    (folder / "v.wav").write_bytes(b"no audio at all")
    with pytest.raises(ExtractionError, match=r'on_error="report" \(--on-error report\)'):
        auricle.extract(folder, tmp_path / "out", model="fbank", on_error="stop")


def test_other_audio_under_an_id_names_the_parameters(folder: Path, tmp_path: Path) -> None:
    auricle.extract(folder, tmp_path / "out", model="fbank")
    soundfile.write(folder / "u.wav", np.cos(np.arange(8000) / 9), 16_000)
    with pytest.raises(OutputError, match=r'refresh=True \(--refresh\).*ids="path" \(--ids path\)'):
        auricle.extract(folder, tmp_path / "out", model="fbank")


def test_two_utterances_of_one_id_name_the_parameter(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    soundfile.write(tmp_path / "other" / "u.wav", np.zeros(8000), 16_000)
    with pytest.raises(AudioError, match='ids="path"'):
        auricle.extract([folder, tmp_path / "other"], tmp_path / "out", model="fbank")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pool": "zzz"}, "pool must be None, 'mean', 'max' or 'meanstd', but is 'zzz'"),
        ({"pool": ["mean"]}, "pool must be"),
        ({"ids": "x"}, "ids must be 'relative' or 'path', but is 'x'"),
        ({"on_error": "x"}, "on_error must be 'report' or 'stop', but is 'x'"),
        ({"engine": "dask"}, "engine must be 'local' or 'ray', but is 'dask'"),
        ({"dry_run": "no"}, "dry_run must be False or True, but is 'no'"),
        ({"batch_seconds": -1}, "batch_seconds must be a positive number of seconds, but is -1"),
        ({"batch_seconds": float("nan")}, "batch_seconds must be .* but is nan"),
        ({"batch_seconds": True}, "batch_seconds must be"),
        ({"window_seconds": 0}, "window_seconds must be None or a positive number"),
        ({"overlap_seconds": -1}, "overlap_seconds must be .* not negative, but is -1"),
        ({"flush_seconds": -1}, "flush_seconds must be .* not negative, but is -1"),
        ({"shard_bytes": 0}, "shard_bytes must be a positive number of bytes, but is 0"),
        ({"shard_bytes": "1"}, "shard_bytes must be"),
        ({"channel": -1}, "channel must be None or a whole number from 0, but is -1"),
        ({"num_workers": -3}, "num_workers must be None or a whole number from 0, but is -3"),
        ({"num_workers": 1.5}, "num_workers must be"),
        ({"num_actors": 0, "engine": "ray"}, "num_actors must be None or a whole number from 1"),
        ({"num_actors": 2}, 'num_actors=2, .* pass engine="ray", or leave num_actors out'),
        ({"address": "auto"}, "address='auto', .* pass engine=\"ray\", or leave address out"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(AuricleError, match=message):
        auricle.extract(tmp_path / "gone", tmp_path / "out", model="fbank", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option", [{"precision": "bf16"}, {"checkpoint": "a.ckpt"}, {"config": {"cmvn": True}}]
)
def test_an_encoder_that_is_loaded_takes_no_options_of_load(
    folder: Path, tmp_path: Path, option: dict[str, Any]
) -> None:
    (name,) = option
    with pytest.raises(AuricleError, match=f"got {name}=.* pass {name} to auricle.load"):
        auricle.extract(folder, tmp_path / "out", model=auricle.load("fbank"), **option)


@pytest.mark.parametrize("streaming", [False, True])
def test_no_inputs(tmp_path: Path, streaming: bool) -> None:
    with pytest.raises(AudioError, match="inputs is empty; name a file"):
        auricle.extract([], tmp_path / "out", model="fbank", streaming=streaming)


def test_numbers_of_numpy_are_numbers(folder: Path, tmp_path: Path) -> None:
    summary = auricle.extract(
        folder,
        tmp_path / "out",
        model="fbank",
        batch_seconds=np.float32(2),  # type: ignore[arg-type]
        shard_bytes=np.int64(1000),  # type: ignore[arg-type]
        flush_seconds=np.float32(0),  # type: ignore[arg-type]
        num_workers=np.int64(0),  # type: ignore[arg-type]
    )
    assert summary.num_encoded == 1
