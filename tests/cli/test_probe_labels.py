from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.__main__ import main
from auricle.plotting import figures
from auricle.probing import probe


@pytest.fixture
def audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight tones, low and high in turn, by four speakers, with a table of them beside."""
    monkeypatch.setattr(figures, "DPI", 20)
    monkeypatch.setattr(probe, "NUM_RESAMPLES", 50)
    folder = tmp_path / "audio"
    folder.mkdir()
    rows = ["file,label,speaker,height"]
    for index in range(8):
        pitch = (300, 2000)[index % 2]
        noise = np.random.default_rng(index).standard_normal(1600)
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(1600) / 16_000) + 0.01 * noise
        soundfile.write(folder / f"{index}.wav", wave, 16_000)
        rows.append(f"{index}.wav,{('low', 'high')[index % 2]},s{index // 2},{pitch}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_labels_of_one_s_own_make_a_report(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = str(tmp_path / "table.csv"), tmp_path / "out"
    command = ["probe", str(audio), "--labels", table, "--group", "speaker", "--folds", "2"]
    models = ["--models", "fbank", "mel", "--out", str(out)]
    assert main([*command, *models]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[0].startswith("split: 2 folds of 4 speakers, stratified by label, no speaker in")
    assert lines[1].endswith("(speakers); of 4 alone, they are rough")
    assert "fbank, label" in lines
    report = json.loads((out / "results.json").read_text())
    assert [result["model"] for result in report["results"]] == ["fbank", "mel"]
    assert report["results"][0]["layers"][0]["scores"]["accuracy"]["value"] == 1.0
    assert (out / "results.png").is_file()
    assert main([*command, *models]) == 0
    assert capsys.readouterr().out.count("measured by an earlier run") == 2


def test_numbers_of_another_column_and_inputs_after_options(
    audio: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = ["--labels", str(tmp_path / "table.csv"), "--label-column", "height", "--regression"]
    options += ["--group", "utterance", "--model", "fbank", "--layers", "all", "--seeds", "1"]
    assert main(["probe", *options, str(audio)]) == 0
    assert "pearson" in capsys.readouterr().out
    assert "--group speaker keeps them apart" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "words"], "leave out --task and --units"),
        (["--label-column", "mood"], "no column 'mood', but file, label, speaker, height"),
        (["--layers", "hidden_3"], "no layer 'hidden_3'"),
    ],
)
def test_errors_are_one_line(
    audio: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["probe", str(audio), "--labels", str(tmp_path / "table.csv"), "--model", "fbank"]
    assert main([*command, *options, "--folds", "2", "--group", "speaker"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("auricle: error: ")
    assert message in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "fbank"], "nothing to measure: pass --labels LABELS, or --task"),
        (["--models", "fbank", "fbank", "--task", "words"], "names a model twice: fbank fbank"),
        (["a", "b", "--model", "fbank", "--task", "words"], "several inputs need --labels"),
    ],
)
def test_options_that_do_not_belong_together_are_named(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", *options]) == 1
    assert message in capsys.readouterr().err
