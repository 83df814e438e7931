"""What `auricle extract` refuses, and what it says when it stops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import auricle
from auricle.extraction import extract as api
from auricle.models.base import Encoder
from cli.conftest import extract_as, files_in

SaveWave = Callable[..., Path]


def test_a_mistyped_path_alone_loads_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "load", pytest.fail)
    assert extract_as(tmp_path / "a.wav", "--model", "tera", "--out", tmp_path / "o") == 1
    assert str(tmp_path / "a.wav") in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "terra"], "no model is called 'terra'"),
        (["--model", "fbank", "--layer", "7"], "has no layer 7"),
        (["--model", "fbank", "--layer", "0", "--weights", "1,2"], "got 2 weights for 1 layer "),
        (["--model", "fbank", "--codes"], "has no quantiser"),
        (["--model", "fbank", "--codes", "--layer", "0"], "leave --layer out"),
        (["--model", "gone.ckpt"], "gone.ckpt does not exist"),
        (["--model", "fbank", "--device", "toaster"], "cannot use device 'toaster'"),
        (["--model", "fbank", "--format", "npy", "--dtype", "bfloat16"], "npy has no bfloat16"),
        (["--model", "fbank", "--actors", "2"], "--engine ray"),
        (["--model", "fbank", "--streaming"], "is no data set of Hugging Face"),
        (["--model", "fbank", "--engine", "ray", "--device", "cpu"], "leave --device out"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(
    save_wave: SaveWave,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert extract_as(save_wave("a.wav"), *options, "--out", tmp_path / "o") == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_two_files_of_one_id_stop_before_any_work(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [save_wave("a.wav"), save_wave("a.flac")]
    assert extract_as(*paths, "--model", "fbank", "--out", tmp_path / "o") == 1
    error = capsys.readouterr().err
    assert all(str(path) in error for path in paths)
    assert not (tmp_path / "o").exists()


def test_another_model_into_the_same_folder_is_refused(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_wave("a.wav")
    assert extract_as(path, "--model", "fbank", "--out", tmp_path / "o") == 0
    before = (tmp_path / "o" / "meta.json").read_bytes()
    assert extract_as(path, "--model", "mel", "--out", tmp_path / "o") == 1
    assert "holds another extraction" in capsys.readouterr().err
    assert (tmp_path / "o" / "meta.json").read_bytes() == before


@pytest.mark.parametrize("name", ["a.wav", "."])
def test_out_that_is_a_file_or_no_store(
    save_wave: SaveWave, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = save_wave("a.wav")
    assert extract_as(path, "--model", "fbank", "--out", tmp_path / name) == 1
    assert "another folder" in capsys.readouterr().err
    assert files_in(tmp_path) == ["a.wav"]


def test_an_interruption_is_told_how_to_go_on(
    save_wave: SaveWave,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    command = [save_wave("a.wav"), "--model", "fbank", "--out", tmp_path / "o"]
    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "layers", interrupt)
        assert extract_as(*command) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "run the same command to resume" in captured.err
    assert extract_as(*command) == 0
    assert list(auricle.open(tmp_path / "o").ids) == ["a"]


def test_no_memory_says_what_to_do(
    save_wave: SaveWave,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    command = [save_wave("a.wav"), "--model", "fbank", "--out", tmp_path / "o"]
    monkeypatch.setattr(Encoder, "layers", fail)
    assert extract_as(*command) == 1
    assert "out of memory" in capsys.readouterr().err


def test_a_fault_of_our_own_is_not_taken_for_a_bad_file(
    save_wave: SaveWave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    command = [save_wave("a.wav"), "--model", "fbank", "--out", tmp_path / "o"]
    monkeypatch.setattr(Encoder, "layers", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        extract_as(*command)
