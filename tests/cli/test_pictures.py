from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.__main__ import main
from auricle.corpus.utterance import Segment
from auricle.plotting import api as pictures
from auricle.plotting import figures
from auricle.plotting.analysis import DrawnUtterance
from auricle.plotting.picture import Picture

SaveWave = Callable[..., Path]


def test_a_picture_of_a_layer(
    save_wave: SaveWave,
    tmp_path: Path,
    tera_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn: list[DrawnUtterance] = []
    draw = pictures.draw_utterance

    def record(utterance: DrawnUtterance) -> Picture:
        drawn.append(utterance)
        return draw(utterance)

    monkeypatch.setattr(pictures, "draw_utterance", record)
    monkeypatch.setattr(figures, "DPI", 20)
    picture = tmp_path / "sub" / "a.png"
    path = save_wave("a.wav", 8000)
    labels = tmp_path / "a.tsv"
    labels.write_text("0\t0.5\tS\n")
    options = ["--model", str(tera_checkpoint), "--layer", "1", "--out", str(picture)]
    section = ["--labels", str(labels), "--start", "0", "--end", "0.25"]
    assert main(["plot", str(path), *options, *section]) == 0
    assert capsys.readouterr().out == f"wrote {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    (utterance,) = drawn
    assert utterance.title == "tera, layer_1: a.wav"
    assert utterance.waveform.shape == (8000,)
    assert utterance.mel.frames.shape == (51, 80)
    assert utterance.representations[0].sequence.frames.shape == (51, 48)
    assert utterance.segments == (Segment(start=0, end=0.5, label="S"),)
    assert utterance.section == (0, 0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "a.txt"], "expected a name that ends in .png"),
        (["--out", "a.png", "--layer", "all"], "one picture shows one layer"),
        (["--out", "a.png", "--layer", "9"], "has no layer 9"),
        (["--out", "a.png", "--channel", "3"], "channel"),
        (["--out", "a.png", "--labels", "none.tsv"], "cannot open none.tsv"),
        (["--out", "a.png", "--start", "1"], "the recording ends at 0.25 s: pass an earlier start"),
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
