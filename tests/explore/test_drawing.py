from __future__ import annotations

import base64
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import auricle
from auricle.audio.inputs import sample_paths
from auricle.explore import choices
from auricle.explore.drawing import DrawRequest, DrawResult, draw, read_section

SPEECH = sample_paths()[0]


@pytest.fixture(scope="module")
def draw_request() -> DrawRequest:
    return DrawRequest(
        audio=SPEECH, name="a.flac", models=(("apc_mini", "rnn_1"),), start=1.0, end=2.5
    )


@pytest.fixture(scope="module")
def drawn(draw_request: DrawRequest, tmp_path_factory: pytest.TempPathFactory) -> DrawResult:
    return draw(draw_request, tmp_path_factory.mktemp("result"))


def part() -> torch.Tensor:
    return torch.from_numpy(soundfile.read(SPEECH, dtype="float32")[0][16_000:40_000])


def test_the_sound_is_the_part(drawn: DrawResult) -> None:
    kind, content = drawn.view["sound"].split(",")
    assert kind == "data:audio/wav;base64"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(samples, part(), atol=1 / 32768)
    assert drawn.view["seconds"] == 1.5


def test_the_picture_is_the_file(drawn: DrawResult) -> None:
    kind, content = drawn.view["picture"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == drawn.picture.read_bytes()
    assert drawn.view["title"] == "apc_mini, rnn_1: a.flac"


def test_panels_lie_where_they_are_drawn(drawn: DrawResult) -> None:
    from matplotlib.image import imread

    pixels = imread(drawn.picture)[..., :3].mean(axis=2)
    height, width = pixels.shape
    panels = drawn.view["panels"]
    assert [panel["name"] for panel in panels][:3] == ["waveform", "log mel", "apc_mini, rnn_1"]
    for panel in panels:
        # The frame of a panel is a dark line of a pixel or two at its edge, down to the next one.
        column = round(panel["left"] * width)
        rows = slice(round(panel["top"] * height) + 2, round(panel["bottom"] * height) - 2)
        assert pixels[rows, column - 2 : column + 3].min(axis=1).max() < 0.5
        assert panel["left"] == panels[0]["left"]
        assert panel["right"] == panels[0]["right"]
        assert 0 < panel["left"] < panel["right"] < 1
        assert 0 < panel["top"] < panel["bottom"] < 1
    tops = [panel["top"] for panel in panels]
    assert tops == sorted(tops)


def test_frames_are_those_of_the_layer(drawn: DrawResult) -> None:
    encoder = auricle.load("apc_mini")
    frames = drawn.view["panels"][2]["frames"]
    num_samples = 24_000
    assert frames["count"] == encoder.num_frames(num_samples)
    assert frames["hop"] == 0.01
    begin, end = encoder.frame_times(num_samples)[0].tolist()
    middle = drawn.view["origin"] + (begin + end) / 2
    assert drawn.view["origin"] == 1.0
    assert frames["start"] + frames["hop"] / 2 == pytest.approx(middle, abs=1e-4)
    assert "frames" not in drawn.view["panels"][0]


def test_features_are_the_encoder_s_with_their_times(drawn: DrawResult) -> None:
    encoder = auricle.load("apc_mini")
    with torch.inference_mode():
        (x,) = encoder([part()], "rnn_1")
    arrays = np.load(drawn.features)
    assert set(arrays) == {"apc_mini.rnn_1", "apc_mini.rnn_1.seconds"}
    np.testing.assert_array_equal(arrays["apc_mini.rnn_1"], x)
    times = encoder.frame_times(24_000).mean(dim=1)
    np.testing.assert_allclose(arrays["apc_mini.rnn_1.seconds"], 1.0 + times, atol=1e-4)


def test_several_models_are_compared(draw_request: DrawRequest, tmp_path: Path) -> None:
    several = dataclasses.replace(draw_request, models=(("apc_mini", None), ("fbank", None)))
    drawn = draw(several, tmp_path)
    assert drawn.view["title"] == "apc_mini, fbank: a.flac"
    assert {key.split(".")[0] for key in np.load(drawn.features)} == {"apc_mini", "fbank"}


def test_times_are_those_of_the_recording(draw_request: DrawRequest, tmp_path: Path) -> None:
    labels = tmp_path / "a.tsv"
    labels.write_text("0\t1.5\tA\n1.5\t2\tB\n")
    speech = read_section(dataclasses.replace(draw_request, labels=labels))
    assert [(one.start, one.end, one.label) for one in speech.segments] == [
        (0, 1.5, "A"),
        (1.5, 2, "B"),
    ]
    assert len(speech.waveform) == 24_000
    assert speech.origin == 1.0


def test_a_part_that_is_none_and_one_that_is_too_long(
    draw_request: DrawRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start, end in ((2.0, 2.0), (3.0, 2.0), (99.0, None)):
        with pytest.raises(auricle.AudioError, match="choose a start before its end"):
            read_section(dataclasses.replace(draw_request, start=start, end=end))
    monkeypatch.setattr(choices, "MAX_SECONDS", 1.0)
    with pytest.raises(auricle.AudioError, match="This is 0 min 2 s of audio, and .* at most 1 s"):
        read_section(draw_request)
    assert choices.examine(SPEECH).startswith("This is 0 min 5 s of audio")
    monkeypatch.undo()
    assert choices.examine(SPEECH) == ""
    assert "This is 1 h 2 min of audio" in choices.describe_excess(3725)


def test_an_end_beyond_the_recording_is_its_end(draw_request: DrawRequest) -> None:
    speech = read_section(dataclasses.replace(draw_request, end=1000.0))
    assert len(speech.waveform) == soundfile.info(SPEECH).frames - 16_000
