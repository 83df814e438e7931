from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.__main__ import main
from auricle.cli import plot
from auricle.plotting.utterance import Utterance

SaveWave = Callable[..., Path]


def test_a_picture_of_a_layer(
    save_wave: SaveWave,
    tmp_path: Path,
    tera_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn: list[Utterance] = []
    draw = plot.draw_utterance

    def record(utterance: Utterance) -> object:
        drawn.append(utterance)
        return draw(utterance)

    monkeypatch.setattr(plot, "draw_utterance", record)
    picture = tmp_path / "sub" / "a.png"
    path = save_wave("a.wav", 8000)
    options = ["--model", str(tera_checkpoint), "--layer", "1", "--out", str(picture)]
    assert main(["plot", str(path), *options]) == 0
    assert capsys.readouterr().out == f"wrote {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    (utterance,) = drawn
    assert utterance.title == "tera, layer layer_1: a.wav"
    assert utterance.waveform.shape == (8000,)
    assert utterance.mel.frames.shape == (51, 80)
    assert utterance.representation.frames.shape == (51, 48)
    assert utterance.sorts_dims


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "a.txt"], "expected a name that ends in .png"),
        (["--out", "a.png", "--layer", "all"], "one picture shows one layer"),
        (["--out", "a.png", "--layer", "9"], "has no layer 9"),
        (["--out", "a.png", "--channel", "3"], "channel"),
    ],
)
def test_wrong_options_are_one_line(
    save_wave: SaveWave,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    path = save_wave("a.wav")
    monkeypatch.chdir(tmp_path)
    assert main(["plot", str(path), "--model", "fbank", *options]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]
