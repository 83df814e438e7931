from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import auricle
from auricle.errors import AuricleError, LayerError
from auricle.probing import probe as probe_module
from auricle.probing.features import choose_layers
from auricle.probing.probe import probe
from auricle.probing.tasks import read_task

CASES = Path(__file__).parents[1] / "golden" / "cases"


@pytest.mark.parametrize("name", ["phones", "words", "speakers"])
def test_tones_are_classified_by_their_spectrum(
    librispeech: Path, arabic_words: Path, name: str
) -> None:
    encoder = auricle.load("fbank")
    task = read_task(name, librispeech.parent, seed=3)
    result = probe(encoder, task)
    (layer,) = result.layers
    # Frames that lie across two tones are the only ones in doubt.
    assert layer.accuracy > (0.9 if name == "phones" else 0.99)
    assert layer.accuracy == pytest.approx(np.mean(layer.fold_accuracies))
    assert len(layer.fold_accuracies) == len(task.folds) == len(result.folds)
    assert result.num_classes == (2 if name == "words" else 3)
    assert result.majority_accuracy < 0.6
    assert result.weights_sha256 is None
    assert (result.task, result.model, result.seed) == (name, "fbank", 3)
    assert (result.best, result.default) == (layer, layer)
    num_folds = 1 if name == "words" else len(task.folds)
    share = {"phones": 1, "words": 1, "speakers": 5}[name]
    tested = layer.num_test * num_folds
    assert tested == pytest.approx({"words": 2}.get(name, share * layer.num_examples))


def test_random_labels_are_not_learnt(arabic_words: Path) -> None:
    """Accuracy above chance would mean that test labels leak into training."""
    task = read_task("words", arabic_words)
    (fold,) = task.folds
    swapped = tuple(
        dataclasses.replace(u, labels={"word": "low" if u.labels["word"] == "high" else "high"})
        if index in fold.test
        else u
        for index, u in enumerate(task.utterances)
    )
    wrong = dataclasses.replace(task, utterances=swapped)
    assert probe(auricle.load("fbank"), wrong).best.accuracy == 0


def test_every_layer_is_probed_and_the_encoder_left_alone(librispeech: Path) -> None:
    encoder = auricle.load(CASES / "tera" / "checkpoint.ckpt")
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    encoder.provenance = dataclasses.replace(encoder.provenance, sha256="ab12")
    result = probe(encoder, read_task("phones", librispeech))
    assert result.weights_sha256 == "ab12"
    assert tuple(layer.name for layer in result.layers) == encoder.info.layers
    assert result.default_layer == encoder.default_layer
    assert result.best.accuracy == max(layer.accuracy for layer in result.layers)
    assert result.skipped_layers == ()
    assert all(weight.equal(before[name]) for name, weight in encoder.state_dict().items())


def test_layers_that_are_too_dense_need_their_name(librispeech: Path) -> None:
    encoder = auricle.load(CASES / "pase" / "checkpoint.ckpt")
    chosen = choose_layers(encoder, None)
    assert [info.geometry.hop_samples >= 80 for info in encoder.layer_infos] == [
        info in chosen for info in encoder.layer_infos
    ]
    dense = encoder.layer_infos[0]
    assert dense.geometry.hop_samples < 80
    assert choose_layers(encoder, [dense.name]) == [dense]
    result = probe(encoder, read_task("phones", librispeech), max_frames=200)
    assert dense.name in result.skipped_layers
    rates = {layer.hop_samples for layer in result.layers}
    assert len(rates) > 1
    assert all(layer.num_examples <= 206 for layer in result.layers)


def test_layers_keep_their_order_and_must_be_there(arabic_words: Path) -> None:
    encoder = auricle.load(CASES / "tera" / "checkpoint.ckpt")
    names = encoder.info.layers
    chosen = choose_layers(encoder, [names[-1], names[0]])
    assert [info.name for info in chosen] == [names[0], names[-1]]
    with pytest.raises(LayerError, match="no layer 'none'"):
        choose_layers(encoder, ["none"])
    result = probe(encoder, read_task("words", arabic_words), layers=[names[0]])
    assert result.default is None


def test_training_mode_and_broken_layers_are_refused(
    librispeech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = auricle.load("fbank")
    task = read_task("speakers", librispeech)
    with pytest.raises(AuricleError, match=r"training mode; call its eval"):
        probe(encoder.train(), task)
    monkeypatch.setattr(np, "isfinite", lambda x: np.zeros(x.shape, bool))
    with pytest.raises(AuricleError, match="fbank, layer features: .*NaN"):
        probe(encoder.eval(), task)


def test_a_solver_that_does_not_converge_is_reported(
    librispeech: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe_module, "MAX_ITERATIONS", 1)
    result = probe(auricle.load("fbank"), read_task("phones", librispeech))
    assert not result.best.converged
    assert "did not converge on layer features" in caplog.text


def test_the_default_layer_is_probed_however_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = auricle.load(CASES / "pase" / "checkpoint.ckpt")
    dense = encoder.layer_infos[0]
    monkeypatch.setattr(type(encoder), "default_layer", dense.name)
    assert dense in choose_layers(encoder, None)
