from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import auricle
from auricle.corpus.utterance import Segment
from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.plotting import figures
from auricle.probing import probe
from auricle.probing.own_labels import OwnTask
from auricle.probing.own_report import (
    LabelsReport,
    ModelScores,
    draw_scores,
    probe_models,
    read_report,
    score_lines,
    setting_lines,
    settings_of,
)
from auricle.probing.report import Score, state_digest
from auricle.probing.tasks import draw_folds, read_task


@pytest.fixture
def own(arabic_words: Path, monkeypatch: pytest.MonkeyPatch) -> OwnTask:
    """Words of two pitches, as labels of one's own, in two folds."""
    monkeypatch.setattr(figures, "DPI", 20)
    monkeypatch.setattr(probe, "NUM_RESAMPLES", 100)
    task = read_task("words", arabic_words)
    units = [one.id for one in task.utterances]
    words = [one.labels["word"] for one in task.utterances]
    folds, split = draw_folds(
        units, words, unit="utterance", is_grouped=False, num_folds=2, seeds=[0, 1]
    )
    task = dataclasses.replace(task, folds=folds)
    return OwnTask(
        task=task, units=tuple(units), unit="utterance", split=split, is_regression=False
    )


def encoders(*names: str) -> Iterator[tuple[str, Encoder]]:
    return ((name, auricle.load(name)) for name in names)


def measured(own: OwnTask, *names: str, out: Path | None = None) -> list[tuple[ModelScores, bool]]:
    return list(probe_models(own, encoders(*names), out=out))


def test_a_killed_run_goes_on_with_the_same_results(own: OwnTask, tmp_path: Path) -> None:
    whole = [result.layers for result, _ in measured(own, "fbank", "mel")]
    out = tmp_path / "out"
    killed = probe_models(own, encoders("fbank", "none"), out=out)
    next(killed)
    with pytest.raises(AuricleError):
        next(killed)
    again = measured(own, "fbank", "mel", out=out)
    assert [was_kept for _, was_kept in again] == [True, False]
    assert [result.layers for result, _ in again] == whole
    report = read_report(out, settings_of(own))
    assert report.results == tuple(result for result, _ in again)
    assert msgspec.json.decode(report.to_json(), type=LabelsReport) == report
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")


def test_results_of_other_labels_weights_or_layers_are_not_taken(
    own: OwnTask, tmp_path: Path
) -> None:
    ((first, _),) = measured(own, "fbank", out=tmp_path)
    encoder = auricle.load("fbank", config={"num_mels": 20})
    ((second, was_kept),) = probe_models(own, [("fbank", encoder)], out=tmp_path)
    assert not was_kept
    assert read_report(tmp_path, settings_of(own)).results == (second,)
    assert first.encoder_sha256 != second.encoder_sha256
    others = tuple(
        dataclasses.replace(one, labels={"word": "high"}) if one.id.startswith("0/") else one
        for one in own.task.utterances
    )
    other = dataclasses.replace(own, task=dataclasses.replace(own.task, utterances=others))
    with pytest.raises(AuricleError, match="measured with other labels_sha256.*choose another"):
        measured(other, "fbank", out=tmp_path)
    with pytest.raises(AuricleError, match="measured with other audio_sha256"):
        measured(dataclasses.replace(own, audio_sha256="ab12"), "fbank", out=tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(AuricleError, match="holds no results of `auricle probe --labels`"):
        measured(own, "fbank", out=tmp_path)


def test_the_digest_of_an_encoder_is_of_what_it_computes() -> None:
    encoder = auricle.load("apc_mini")
    first = state_digest(encoder)
    assert state_digest(auricle.load("apc_mini")) == first
    assert state_digest(auricle.load("apc_mini", precision="bf16")) != first
    next(encoder.parameters()).data.view(-1)[0] += 1  # as training changes it
    assert state_digest(encoder) != first


def test_labels_of_a_test_fold_do_not_leak(own: OwnTask) -> None:
    (fold, *_) = own.task.folds
    swapped = tuple(
        dataclasses.replace(
            one, labels={"word": {"low": "high", "high": "low"}[one.labels["word"]]}
        )
        if index in fold.test
        else one
        for index, one in enumerate(own.task.utterances)
    )
    task = dataclasses.replace(own.task, utterances=swapped, folds=(fold,))
    ((result, _),) = measured(dataclasses.replace(own, task=task), "fbank")
    assert result.best.main.value == 0


def test_numbers_are_predicted_layer_by_layer(own: OwnTask) -> None:
    heights = {"low": 1.0, "high": 3.0}
    utterances = tuple(
        dataclasses.replace(one, labels={"word": str(heights[one.labels["word"]])})
        for one in own.task.utterances
    )
    task = dataclasses.replace(own.task, utterances=utterances)
    numbers = dataclasses.replace(own, task=task, is_regression=True)
    ((result, _),) = measured(numbers, "fbank")
    (layer,) = result.layers
    assert list(layer.scores) == ["r2", "mae", "pearson", "spearman"]
    assert layer.scores["r2"].value > 0.5
    assert layer.scores["mae"].baseline == pytest.approx(1.0)
    assert np.mean(layer.fold_scores) == pytest.approx(layer.scores["r2"].value)
    settings = settings_of(numbers)
    assert (settings.num_classes, settings.model[:5]) == (None, "ridge")
    lines = list(score_lines(settings, result))
    assert lines[1].split() == ["layer", "r2", "mae", "pearson", "spearman"]
    assert lines[3].split()[0] == "mean"
    wide = {
        name: Score(value=-0.00123, low=-0.00123, high=-0.00123, baseline=0.0)
        for name in layer.scores
    }
    scored = msgspec.structs.replace(layer, scores=wide)
    lines = list(score_lines(settings, msgspec.structs.replace(result, layers=(scored,))))
    assert lines[2].count("]  -0.00123 [") == 3


def test_frames_are_pooled_over_their_utterances(own: OwnTask) -> None:
    utterances = tuple(
        dataclasses.replace(one, segments=(Segment(start=0.0, end=0.05, label=one.labels["word"]),))
        for one in own.task.utterances
    )
    task = dataclasses.replace(own.task, utterances=utterances, target=None, name="frames")
    ((result, _),) = measured(dataclasses.replace(own, task=task), "fbank")
    (layer,) = result.layers
    assert layer.num_train + layer.num_test == 4 * 8  # of eight utterances of 0.1 s
    assert layer.main.value > 0.95


def test_lines_and_picture_show_scores_with_intervals(own: OwnTask) -> None:
    results = tuple(result for result, _ in measured(own, "fbank", "mel"))
    settings = settings_of(own)
    lines = "\n".join(score_lines(settings, results[0]))
    assert lines.splitlines()[0] == "fbank, words"
    assert "features          100.0 [100.0, 100.0]  100.0 [100.0, 100.0]" in lines
    assert "best, default" in lines
    assert "majority class" in lines
    split, intervals = setting_lines(settings)
    assert "2 folds of 8 utterances, stratified by label, not grouped; 2 seed(s) from 0" in split
    assert "95%, percentiles of" in intervals
    figure = draw_scores(LabelsReport(settings=settings, results=results))
    (axes,) = figure.axes
    assert axes.get_ylabel() == "accuracy (%)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "fbank",
        "mel",
        "majority class",
    ]


def test_training_mode_is_refused_and_layers_are_chosen(own: OwnTask) -> None:
    encoder = auricle.load("apc_mini")
    ((result, _),) = probe_models(own, [("apc", encoder)], layers=[0])
    assert [layer.name for layer in result.layers] == ["rnn_1"]
    assert result.skipped_layers == ("rnn_2", "rnn_3")
    assert "  not probed: rnn_2, rnn_3" in score_lines(settings_of(own), result)
    with pytest.raises(AuricleError, match="training mode"):
        list(probe_models(own, [("apc", encoder.train())]))
