from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import auricle
from auricle.audio.inputs import sample_paths
from auricle.corpus.utterance import Segment
from auricle.plotting import api as module
from auricle.plotting.analysis import DrawnUtterance, at_common_times, cka_matrix
from auricle.plotting.api import comparison_of, layers_of_each, listen, picture_of, represent
from auricle.plotting.picture import LayerSimilarity, Picture

SPEECH = sample_paths()[0]

pytestmark = pytest.mark.usefixtures("not_laid_out")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is handed to the two functions that draw, which draw it all the same."""
    handed: list[Any] = []

    def spy(name: str) -> None:
        draw = getattr(module, name)

        def record(*arguments: object) -> Picture:
            handed.append(arguments)
            picture: Picture = draw(*arguments)
            return picture

        monkeypatch.setattr(module, name, record)

    spy("draw_utterance")
    spy("draw_comparison")
    return handed


def short_speech() -> torch.Tensor:
    return torch.from_numpy(soundfile.read(SPEECH, dtype="float32")[0][:16_000])


def test_what_is_drawn_is_what_the_encoder_gives(drawn: list[Any]) -> None:
    encoder = auricle.load("vq_apc_mini")
    waveform = short_speech()
    figure = auricle.plot(waveform, encoder, "rnn_1", labels=[(0, 0.5, "S")], end=0.75)
    ((utterance,),) = drawn
    assert isinstance(utterance, DrawnUtterance)
    assert utterance.title == "vq_apc_mini, rnn_1"
    assert figure.texts[0].get_text() == utterance.title
    np.testing.assert_array_equal(utterance.waveform, waveform)
    assert utterance.segments == (Segment(start=0, end=0.5, label="S"),)
    assert utterance.shown == (0, 0.75)
    (shown,) = utterance.representations
    with torch.inference_mode():
        (x,), (codes,) = encoder([waveform], "rnn_1"), encoder.codes([waveform])
        (mel,) = auricle.load("mel")([waveform])
    np.testing.assert_array_equal(shown.sequence.frames, x)
    np.testing.assert_array_equal(utterance.mel.frames, mel)
    assert shown.codes is not None
    np.testing.assert_array_equal(shown.codes.frames, codes)
    assert shown.sequence.geometry == encoder.layer_info("rnn_1").geometry
    assert shown.codes.geometry == encoder.layer_info(encoder.codes_layer).geometry
    assert shown.sorts_dims


def test_a_path_names_the_picture_and_spectra_keep_their_order(drawn: list[Any]) -> None:
    auricle.plot(str(SPEECH), "fbank")
    ((utterance,),) = drawn
    assert utterance.title == f"fbank, features: {SPEECH.name}"
    assert not utterance.representations[0].sorts_dims
    assert utterance.representations[0].codes is None


def test_a_comparison_has_the_layers_asked_for_and_all_in_its_matrix(drawn: list[Any]) -> None:
    names = ["tera_mini", "wav2vec2_mini"]
    auricle.compare(SPEECH, names, ["layer_1", None])
    ((utterance, similarity),) = drawn
    assert isinstance(similarity, LayerSimilarity)
    assert [(one.model, one.layer) for one in utterance.representations] == [
        ("tera_mini", "layer_1"),
        ("wav2vec2_mini", auricle.load("wav2vec2_mini").default_layer),
    ]
    assert utterance.title == f"tera_mini, wav2vec2_mini: {SPEECH.name}"
    speech = listen(SPEECH)
    every = []
    for name in names:
        encoder = auricle.load(name)
        every += represent(speech, encoder, encoder.layer_infos)
    assert similarity.layers == tuple((one.model, one.layer) for one in every)
    aligned = at_common_times([(one.sequence.frames, one.sequence.geometry) for one in every])
    np.testing.assert_allclose(similarity.matrix, cka_matrix(aligned, unbiased=True))
    assert similarity.num_moments == len(aligned[0])
    inner = similarity.matrix[:4, :4], similarity.matrix[:4, 4:]
    assert inner[0].min() > inner[1].max()  # a model is more like itself than like another


def test_all_layers_and_codes_once(drawn: list[Any]) -> None:
    encoder = auricle.load("vq_apc_mini")
    comparison_of(listen(short_speech()), [encoder], "all")
    ((utterance, similarity),) = drawn
    assert [one.layer for one in utterance.representations] == list(encoder.info.layers)
    assert len(similarity.layers) == len(encoder.info.layers)
    with_codes = [one.layer for one in utterance.representations if one.codes is not None]
    assert with_codes == [encoder.info.layers[-1]]


def test_layers_are_one_for_each_model() -> None:
    assert layers_of_each(None, 2) == [None, None]
    assert layers_of_each(-1, 2) == [-1, -1]
    assert layers_of_each("context", 1) == ["context"]
    assert layers_of_each([0, "x"], 2) == [0, "x"]
    assert layers_of_each("all", 3) == "all"
    with pytest.raises(auricle.LayerError, match="got 3 layers for 2 models: pass one for each"):
        layers_of_each([1, 2, 3], 2)
    for count in (0, 9):
        with pytest.raises(auricle.AuricleError, match=f"got {count} models to compare"):
            layers_of_each(None, count)


def test_labels_come_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("0.1\t0.2\tAA\n")
    speech = listen(short_speech(), labels=tmp_path / "a.tsv")
    assert speech.segments == (Segment(start=0.1, end=0.2, label="AA"),)


@pytest.mark.parametrize(
    ("options", "section"),
    [
        ({}, None),
        ({"start": 0.5}, (0.5, 1)),
        ({"end": 9}, (0, 1)),
        ({"start": 0, "end": 1}, (0, 1)),
    ],
)
def test_a_section_ends_with_the_audio(
    options: dict[str, float], section: tuple[float, float] | None
) -> None:
    assert listen(short_speech(), **options).section == section  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"start": 0.5, "end": 0.5}, {"start": 0.5, "end": 0.2}, {"end": 0}]
)
def test_an_empty_section_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(auricle.AudioError, match="of 1 s: pass a start before the end"):
        listen(short_speech(), **options)  # type: ignore[arg-type]


def test_a_section_behind_the_end_is_refused() -> None:
    with pytest.raises(auricle.AudioError, match="begins at 20 s, but the recording ends at 1 s"):
        listen(short_speech(), start=20)


def test_a_negative_start_is_refused() -> None:
    with pytest.raises(auricle.AudioError, match="from -1 s: pass a start of 0 or more"):
        listen(short_speech(), start=-1)


@pytest.mark.parametrize("labels", [[(0, "x")], [("a", "b", "c")], [5]])
def test_labels_of_another_form_are_refused(labels: Any) -> None:
    with pytest.raises(auricle.AudioError, match=r"labels are \(start, end, label\) in seconds"):
        listen(short_speech(), labels=labels)


def test_labels_of_another_recording_are_refused() -> None:
    with pytest.raises(auricle.AudioError, match="times in seconds"):
        listen(short_speech(), labels=[(0, 400, "x")])


def test_an_encoder_that_comes_twice_is_in_the_matrix_once(drawn: list[Any]) -> None:
    speech = short_speech()
    auricle.compare(speech, ["apc_mini", "apc_mini"], [0, 1])
    ((utterance, similarity),) = drawn
    assert [one.layer for one in utterance.representations] == ["rnn_1", "rnn_2"]
    assert [layer for _, layer in similarity.layers] == ["rnn_1", "rnn_2", "rnn_3"]
    with pytest.raises(auricle.LayerError, match="apc_mini comes twice with its layer rnn_3"):
        auricle.compare(speech, ["apc_mini", "apc_mini"])


def test_one_model_is_a_list_of_one(drawn: list[Any]) -> None:
    auricle.compare(short_speech(), "apc_mini")
    ((utterance, _),) = drawn
    assert [one.model for one in utterance.representations] == ["apc_mini"]


def test_several_utterances_are_refused() -> None:
    with pytest.raises(auricle.AudioError, match="got a list of 2, expected one utterance"):
        auricle.plot([SPEECH, SPEECH])  # type: ignore[arg-type]


def test_channels_are_for_files(tmp_path: Path) -> None:
    two = np.stack([np.full(8000, 0.25), np.full(8000, -0.5)], axis=1)
    soundfile.write(tmp_path / "a.wav", two, 16_000)
    assert listen(tmp_path / "a.wav", channel=1).waveform.mean() == pytest.approx(-0.5, abs=1e-3)
    with pytest.raises(auricle.AudioError, match="a channel is for files"):
        listen(short_speech(), channel=1)


def test_too_little_audio_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    needed = r"has 0\.0006 s, too short for tera_mini, which needs 0\.0350 s"
    with pytest.raises(auricle.AudioError, match=f"the audio {needed}"):
        picture_of(listen(torch.zeros(10)), auricle.load("tera_mini"))
    soundfile.write(tmp_path / "a.wav", np.zeros(10), 16_000)
    with pytest.raises(auricle.AudioError, match=f"a.wav {needed}"):
        auricle.compare(tmp_path / "a.wav", ["tera_mini"])
    encoder = auricle.load("wav2vec2_mini")
    with pytest.raises(auricle.AudioError, match="3 frame.s. are too few to compare layers by"):
        comparison_of(listen(short_speech()[:1100]), [encoder], [None])


def test_other_layers_are_refused() -> None:
    with pytest.raises(auricle.LayerError, match="no layer 'x'"):
        auricle.plot(short_speech(), "apc_mini", "x")
    with pytest.raises(auricle.LayerError, match="no layer 9"):
        auricle.compare(short_speech(), ["apc_mini"], 9)
