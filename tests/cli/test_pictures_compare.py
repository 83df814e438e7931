from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from auricle.__main__ import main
from auricle.models.base import Encoder
from auricle.plotting import api as pictures
from auricle.plotting import figures
from auricle.plotting.picture import Picture

SaveWave = Callable[..., Path]


@pytest.mark.usefixtures("not_laid_out")
@pytest.mark.parametrize(
    ("layers", "drawn"),
    [
        ([], [None, None]),
        (["--layers", "-1"], [-1, -1]),
        (["--layers", "0,rnn_1"], [0, "rnn_1"]),
        (["--layers", "all"], "all"),
    ],
)
def test_a_picture_of_several_models(
    save_wave: SaveWave,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    layers: list[str],
    drawn: object,
) -> None:
    seen: list[Any] = []
    draw = pictures.comparison_of

    def record(speech: Any, encoders: Iterable[Encoder], chosen: Any) -> Picture:
        known = list(encoders)
        seen.append(([encoder.info.name for encoder in known], chosen))
        return draw(speech, known[:1], [None])

    monkeypatch.setattr(pictures, "comparison_of", record)
    monkeypatch.setattr(figures, "DPI", 20)
    picture = tmp_path / "a.pdf"
    path = save_wave("a.wav", 8000)
    options = ["--models", "mel,apc_mini", *layers, "--out", str(picture)]
    assert main(["compare", str(path), *options]) == 0
    assert capsys.readouterr().out == f"wrote {picture}\n"
    assert picture.read_bytes().startswith(b"%PDF")
    assert seen == [(["mel", "apc_mini"], drawn)]


def test_two_layers_of_one_model(save_wave: SaveWave, tmp_path: Path) -> None:
    path = save_wave("a.wav", 8000)
    options = ["--models", "apc_mini,apc_mini", "--layers", "0,1"]
    assert main(["compare", str(path), *options, "--out", str(tmp_path / "a.png")]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "mel", "--out", "a.gif"], "expected a name that ends in .png"),
        (["--models", "mel", "--layers", "1,2", "--out", "a.png"], "got 2 layers for 1 models"),
        (["--models", "mel,bert", "--out", "a.png"], "bert"),
        (["--models", "mel", "--layers", "9", "--out", "a.png"], "has no layer 9"),
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
    assert main(["compare", str(path), *options]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]
