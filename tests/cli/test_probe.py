from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import auricle
from auricle.__main__ import main
from auricle.cli import probe as module
from auricle.plotting import figures
from auricle.probing.report import read_results


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Two words and two speakers that differ in pitch."""
    folder = tmp_path / "corpora"
    rows: dict[str, list[str]] = {"arabic_words": [], "librispeech": []}
    for label, pitch in (("low", 300), ("high", 2000)):
        for take in range(6):
            time = np.arange(1600) / 16_000
            noise = np.random.default_rng(pitch + take).standard_normal(1600)
            wave = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * noise
            for corpus, column in (
                ("arabic_words", "test" if take > 3 else "train"),
                ("librispeech", "speakers"),
            ):
                name = f"{label}-{take}.wav"
                (folder / corpus).mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / corpus / name, wave, 16_000)
                rows[corpus].append(f"{name}\t{column}\t{label}")
    for corpus, label in (("arabic_words", "word"), ("librispeech", "speaker")):
        lines = [f"path\tsplit\t{label}", *rows[corpus]]
        (folder / corpus / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_models_and_tasks_make_one_table(
    corpora: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(figures, "DPI", 20)
    out = tmp_path / "out"
    options = ["--models", "fbank,mel", "--task", "words,speakers", "--out", str(out)]
    assert main(["probe", "--data", str(corpora), *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    table = (out / "table.md").read_text()
    assert table in captured.out
    assert table.splitlines()[2:] == [
        f"| `{model}` | 100.0 (features) | 100.0 | 100.0 (features) | 100.0 |"
        for model in ("fbank", "mel")
    ]
    for task in ("words", "speakers"):
        results = read_results(out / f"{task}.json").results
        assert [(result.model, result.task) for result in results] == [
            ("fbank", task),
            ("mel", task),
        ]
        assert (out / f"{task}.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_of_results_grows_and_a_model_measured_again_is_replaced(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "DPI", 20)
    out = tmp_path / "out"
    runs = (("fbank", "words"), ("mel", "words"), ("mel", "speakers"), ("fbank", "words"))
    for model, task in runs:
        options = ["--data", str(corpora), "--model", model, "--task", task, "--out", str(out)]
        assert main(["probe", *options]) == 0
    words = [result.model for result in read_results(out / "words.json").results]
    assert words == ["fbank", "mel"]
    header, _, *rows = (out / "table.md").read_text().splitlines()
    assert "speakers, best" in header
    assert [row.split("|")[1].strip() for row in rows] == ["`fbank`", "`mel`"]


def test_results_measured_in_another_way_are_not_mixed(
    corpora: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(figures, "DPI", 20)
    options = ["--data", str(corpora), "--task", "words", "--out", str(tmp_path / "out")]
    assert main(["probe", "--model", "fbank", *options]) == 0
    path = tmp_path / "out" / "words.json"
    path.write_text(path.read_text().replace('"penalty": 0.01', '"penalty": 0.1'))
    assert main(["probe", "--model", "mel", *options]) == 1
    assert "choose another --out" in capsys.readouterr().err
    assert [result.model for result in read_results(path).results] == ["fbank"]


def test_layers_by_name_or_index_without_a_folder(
    corpora: Path, tera_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(tera_checkpoint), "--task", "words", "--layers=-1,0"]
    assert main(["probe", "--data", str(corpora), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    probed = [line.split()[0] for line in lines if " dims" in line]
    assert len(probed) == 2
    assert "not probed" in "".join(lines)


def test_all_means_every_layer(
    corpora: Path, tera_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", "tera", "--checkpoint", str(tera_checkpoint), "--layers", "all"]
    assert main(["probe", "--data", str(corpora), "--task", "words", *options]) == 0
    assert "not probed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "fbank", "--task", "emotion"], "no task 'emotion'"),
        (["--model", "fbank", "--task", "phones"], "phones.tsv"),
        (["--model", "fbnk", "--task", "words"], "fbnk"),
        (["--model", "fbank", "--task", "words", "--layers", "hidden_3"], "no layer 'hidden_3'"),
        (["--model", "fbank", "--task", "words", "--layers", "4"], "no layer 4"),
        (["--models", "fbank,mel", "--task", "words", "--checkpoint", "x"], "for one model"),
    ],
)
def test_errors_are_one_line(
    corpora: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "--data", str(corpora), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("auricle: error: ")
    assert message in line


@pytest.mark.parametrize(
    "options",
    [
        ["--task", "words"],
        ["--model", "a", "--models", "a,b", "--task", "words"],
        ["--models", "a,,b", "--task", "words"],
        ["--models", "a,a", "--task", "words"],
    ],
)
def test_usage_errors(options: list[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        main(["probe", "--data", "x", *options])
    assert leave.value.code == 2


def test_what_is_missing_is_found_before_any_work(
    corpora: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(module, "load_encoder", fail)
    command = ["probe", "--data", str(corpora), "--model", "fbank", "--task", "words"]
    (tmp_path / "file").touch()
    assert main([*command, "--out", str(tmp_path / "file")]) == 1
    assert "is a file" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(command) == 1
    assert "pip install scikit-learn" in capsys.readouterr().err


@pytest.fixture
def phones(tmp_path: Path) -> Path:
    """Two speakers who say low and high phones, twice each, in one file each."""
    folder = tmp_path / "phones"
    folder.mkdir()
    labels, listed = ["path\tphone\tstart_frame_10ms\tframes"], ["path\tspeaker"]
    for speaker in ("x", "y"):
        time = np.arange(1600) / 16_000
        waves = [np.sin(2 * np.pi * pitch * time) for pitch in (300, 2000, 300, 2000)]
        soundfile.write(folder / f"{speaker}.wav", 0.3 * np.concatenate(waves), 16_000)
        listed.append(f"{speaker}.wav\t{speaker}")
        labels += [f"{speaker}.wav\t{p}\t{10 * k}\t10" for k, p in enumerate("ASAS")]
    (folder / "phones.tsv").write_text("\n".join(labels) + "\n")
    (folder / "manifest.tsv").write_text("\n".join(listed) + "\n")
    return folder


def test_abx_makes_items_which_another_run_reads(
    phones: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(figures, "DPI", 20)
    items, out = tmp_path / "made.item", tmp_path / "out"
    options = ["--task", "abx", "--data", str(phones), "--any-context", "--out", str(out)]
    assert main(["probe", "--models", "fbank,mel", *options, "--save-items", str(items)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "fbank, abx: 8 items of 2 phones and 2 speaker(s), from phones.tsv" in captured.out
    assert (out / "abx.md").read_text() in captured.out
    assert len(items.read_text().splitlines()) == 1 + 8
    other = ["--task", "abx", "--data", str(phones), "--any-context", "--items", str(items)]
    assert main(["probe", "--model", "fbank", *other]) == 0
    again = capsys.readouterr().out
    assert "from made.item" in again
    assert again.splitlines()[-1] in captured.out  # the row of fbank
    # The folder holds results of items of another span.
    assert main(["probe", "--model", "fbank", *other, "--out", str(out)]) == 1
    assert "choose another --out" in capsys.readouterr().err


def test_units_are_measured_with_the_encoder_that_they_name(
    phones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (features,) = auricle.load("fbank")([phones / "x.wav"])
    units = tmp_path / "units.safetensors"
    centroids = features[[5, 15]][None]
    auricle.Units(centroids=centroids, layer="features", model="fbank").save(units)
    options = ["--units", str(units), "--task", "units", "--data", str(phones)]
    assert main(["probe", *options, "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "units.safetensors: 2 clusters of fbank, features" in captured.out
    assert (tmp_path / "out/units.json").is_file()
    for wrong in (["--model", "fbank", "--task", "units"], [*options[:2], "--task", "abx,units"]):
        assert main(["probe", *wrong, "--data", str(phones)]) == 1
        assert "pass --task units --units FILE" in capsys.readouterr().err


def test_help_names_the_tasks_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["probe", "--help"])
    text = capsys.readouterr().out
    assert "phones, words, speakers" in text
    assert "\n  auricle probe" in text.partition("example")[2]
