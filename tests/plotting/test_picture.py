from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle.corpus.utterance import Segment
from auricle.errors import MissingExtraError
from auricle.info import FrameGeometry, Window
from auricle.plotting import panels as module
from auricle.plotting.analysis import DrawnUtterance, FrameSequence, Representation
from auricle.plotting.figures import code_colours, save_figure
from auricle.plotting.picture import LayerSimilarity, Picture, draw_comparison, draw_utterance

GEOMETRY = FrameGeometry((Window(size=400, stride=160),))


def sequence(num_frames: int, dim: int) -> FrameSequence:
    frames = np.random.default_rng(dim).standard_normal((num_frames, dim), dtype=np.float32)
    return FrameSequence(frames=frames, geometry=GEOMETRY)


def representation(num_frames: int = 98, **changes: Any) -> Representation:
    example = Representation(model="a", layer="b_1", sequence=sequence(num_frames, 6))
    return dataclasses.replace(example, **changes)


def utterance(num_samples: int = 16_000, **changes: Any) -> DrawnUtterance:
    num_frames = GEOMETRY.num_frames(num_samples)
    example = DrawnUtterance(
        title="a $title$ with_signs",
        waveform=np.sin(np.arange(num_samples, dtype=np.float32)),
        sample_rate=16_000,
        mel=sequence(num_frames, 80),
        representations=(representation(num_frames),),
    )
    return dataclasses.replace(example, **changes)


def panel(picture: Picture, name: str) -> Any:
    (found,) = [panel for panel in picture.panels if panel.name == name]
    return found.axes


def image(picture: Picture, name: str) -> Any:
    (found,) = panel(picture, name).images
    return found


def names(picture: Picture, name: str) -> list[str]:
    return [text.get_text() for text in panel(picture, name).texts]


def similarity(*layers: tuple[str, str]) -> LayerSimilarity:
    count = len(layers)
    matrix = np.eye(count) * 0.5 + 0.5
    return LayerSimilarity(layers=layers, matrix=matrix, num_moments=1234)


def codes(*columns: list[int]) -> FrameSequence:
    return FrameSequence(frames=np.array(columns).T, geometry=GEOMETRY)


def test_the_panels_share_the_time_axis_and_stand_in_line() -> None:
    picture = draw_utterance(utterance())
    assert [each.name for each in picture.panels] == [
        "waveform",
        "log mel",
        "a, b_1",
        "a, b_1: principal components",
        "self-similarity",
    ]
    first = picture.panels[0].axes.get_position()
    for each in picture.panels:
        assert each.axes.get_xlim() == (0, 1)
        box = each.axes.get_position()
        assert (box.x0, box.x1) == pytest.approx((first.x0, first.x1))
    last = picture.panels[-1].axes
    assert last.get_ylim() == (0, 1)
    assert last.get_xlabel() == "time (s)"
    (title,) = picture.figure.texts
    assert title.get_text() == "a $title$ with_signs"
    assert not title.get_parse_math()


@pytest.mark.usefixtures("not_laid_out")
def test_each_frame_lies_around_its_centre() -> None:
    picture = draw_utterance(utterance())
    start = (200 - 80) / 16_000
    end = start + GEOMETRY.num_frames(16_000) * 0.01
    for name, dim in (("log mel", 80), ("a, b_1", 6)):
        assert image(picture, name).get_extent() == pytest.approx((start, end, -0.5, dim - 0.5))
    ribbon = image(picture, "a, b_1: principal components")
    assert ribbon.get_extent() == pytest.approx((start, end, 0.5, -0.5))
    square = image(picture, "self-similarity")
    assert square.get_extent() == pytest.approx((start, end, start, end))


@pytest.mark.usefixtures("not_laid_out")
def test_a_section_is_drawn_as_finely_as_if_it_were_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COLUMNS", 50)
    monkeypatch.setattr(module, "MAX_SIMILARITY_COLUMNS", 50)
    example = utterance(
        section=(0.25, 0.7), representations=(representation(codes=codes(list(range(98)))),)
    )
    picture = draw_utterance(example)
    # Frames begin at 0.0075 s: the one at 24 holds 0.25 s, the one at 69 holds 0.7 s.
    start, end = 0.0075 + 0.24, 0.0075 + 0.70
    np.testing.assert_allclose(image(picture, "log mel").get_array(), example.mel.frames[24:70].T)
    for name in ("log mel", "a, b_1", "a, b_1: principal components", "a: codes"):
        assert image(picture, name).get_extent()[:2] == pytest.approx((start, end))
        assert panel(picture, name).get_xlim() == (0.25, 0.7)
    numbers = np.asarray(image(picture, "a: codes").get_array())
    np.testing.assert_array_equal(numbers[0], code_colours(np.arange(24, 70)))
    x = example.representations[0].sequence.frames[24:70].astype(np.float64)
    x /= np.sqrt((x * x).sum(axis=1, keepdims=True))
    similar = image(picture, "self-similarity")
    np.testing.assert_allclose(similar.get_array(), x @ x.T)
    assert similar.get_extent() == pytest.approx((start, end, start, end))
    assert picture.panels[-1].axes.get_ylim() == (0.25, 0.7)


def test_a_part_of_a_recording_keeps_the_recording_s_times() -> None:
    segments = (
        Segment(start=2.0, end=4.0, label="S"),
        Segment(start=9.0, end=10.0, label="T"),
    )
    shown = representation(codes=codes([7] * 98))
    picture = draw_utterance(utterance(origin=3.0, segments=segments, representations=(shown,)))
    start = 3.0 + (200 - 80) / 16_000
    end = start + GEOMETRY.num_frames(16_000) * 0.01
    for name in ("log mel", "a, b_1", "a, b_1: principal components", "a: codes"):
        assert panel(picture, name).get_xlim() == (3, 4)
        assert image(picture, name).get_extent()[:2] == pytest.approx((start, end))
    assert image(picture, "self-similarity").get_extent() == pytest.approx((start, end, start, end))
    (band,) = panel(picture, "waveform").collections
    assert band.get_datalim(panel(picture, "waveform").transData).intervalx == pytest.approx(
        (3, 4), abs=0.001
    )
    (box,) = panel(picture, "labels").patches
    assert (box.get_x(), box.get_x() + box.get_width()) == (3, 4)
    assert names(picture, "labels") == ["S"]


def bars(picture: Picture) -> dict[str, Any]:
    images = [shown for axes in picture.figure.axes for shown in axes.images if shown.colorbar]
    return {shown.colorbar.ax.get_ylabel().split()[0]: shown.colorbar for shown in images}


@pytest.mark.usefixtures("not_laid_out")
def test_the_bar_of_equal_values_holds_no_impossible_ones() -> None:
    same = representation(sequence=FrameSequence(frames=np.ones((98, 6)), geometry=GEOMETRY))
    bar = bars(draw_utterance(utterance(representations=(same,))))["cosine"]
    assert (bar.vmin, bar.vmax) == (0, 1)
    assert bar.extend == "neither"


@pytest.mark.usefixtures("not_laid_out")
def test_the_similarity_is_the_cosine() -> None:
    example = utterance()
    x = example.representations[0].sequence.frames.astype(np.float64)
    lengths = np.sqrt((x * x).sum(axis=1))
    cosines = image(draw_utterance(example), "self-similarity").get_array()
    np.testing.assert_allclose(cosines, x @ x.T / np.outer(lengths, lengths))


@pytest.mark.usefixtures("not_laid_out")
def test_dims_are_sorted_only_where_they_have_no_order_of_their_own() -> None:
    in_order = utterance(representations=(representation(sorts_dims=False),))
    plain = draw_utterance(in_order)
    rows = np.asarray(image(plain, "a, b_1").get_array())
    frames = in_order.representations[0].sequence.frames.astype(np.float64)
    np.testing.assert_allclose(rows, ((frames - frames.mean(0)) / frames.std(0)).T)
    ordered = draw_utterance(utterance())
    assert "similar ones together" in panel(ordered, "a, b_1").get_ylabel()
    assert "similar" not in panel(plain, "a, b_1").get_ylabel()
    drawn = np.asarray(image(ordered, "a, b_1").get_array())
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(rows, 0))
    assert not np.allclose(drawn, rows)


@pytest.mark.usefixtures("not_laid_out")
def test_the_ribbon_is_lighter_where_the_first_component_is_higher() -> None:
    frames = np.zeros((98, 6), dtype=np.float32)
    frames[:, :4] = np.linspace(-1, 1, 98)[:, None]
    frames[:, 5] = np.where(np.arange(98) % 2, 0.5, -0.5)
    example = representation(sequence=FrameSequence(frames=frames, geometry=GEOMETRY))
    picture = draw_utterance(utterance(representations=(example,)))
    colours = np.asarray(image(picture, "a, b_1: principal components").get_array())
    assert colours.shape == (1, 98, 3)
    lightness = colours[0].mean(axis=1)
    assert lightness[-20:].min() > lightness[:20].max() + 0.3
    assert (np.diff(colours[0, 20:79, 0] - colours[0, 20:79, 2]) * frames[21:79, 5] > 0).all()
    told = [text.get_text() for axes in picture.figure.axes for text in axes.texts]
    assert "1: dark to light, 80 %\n2: blue to yellow, 20 %\nof the variance" in told


@pytest.mark.usefixtures("not_laid_out")
def test_frequency_ticks_lie_in_their_bands() -> None:
    mel = panel(draw_utterance(utterance()), "log mel")
    labels = [label.get_text() for label in mel.get_yticklabels()]
    assert labels == ["250", "500", "1000", "2000", "4000"]
    # HTK: 1000 Hz is 1000 mel of 2840; of 80 bands, peaks at multiples of a part in 81.
    assert mel.get_yticks()[2] == pytest.approx(1000 / 2840 * 81 - 1, abs=0.02)


def test_labels_stand_in_their_boxes_where_they_fit() -> None:
    segments = (
        Segment(start=0.0, end=0.5, label="wide"),
        Segment(start=0.5, end=0.518, label="up"),
        Segment(start=0.518, end=0.56, label="much too long"),
        Segment(start=0.56, end=0.565, label="n"),
        Segment(start=0.9, end=3.0, label="$cut_"),
        Segment(start=0.9999999999, end=1.1, label="after the end"),
        Segment(start=2.0, end=3.0, label="gone"),
    )
    picture = draw_utterance(utterance(segments=segments))
    axes = panel(picture, "labels")
    assert len(axes.patches) == 5
    written = {text.get_text(): text for text in axes.texts}
    assert list(written) == ["wide", "up", "$cut_"]
    assert written["wide"].get_rotation() == 0
    assert written["up"].get_rotation() == 90
    assert written["$cut_"].get_position() == (pytest.approx(0.95), 0.5)


def test_no_names_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    edges = np.sort(generator.uniform(0, 1, 120))
    segments = tuple(
        Segment(start=a, end=b, label="ABCDE"[: generator.integers(1, 6)])
        for a, b in itertools.pairwise(edges)
    )
    numbers = codes(*generator.integers(0, 400, (2, 14)).repeat(7, axis=1).tolist())
    shown = representation(codes=numbers)
    picture = draw_utterance(utterance(segments=segments, representations=(shown,)))
    for name in ("labels", "a: codes"):
        axes = panel(picture, name)
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) > 5
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:index])
            inside = axes.get_window_extent()
            assert inside.y0 <= box.y0
            assert box.y1 <= inside.y1
            assert inside.x0 <= box.x0
            assert box.x1 <= inside.x1


def test_codes_are_ribbons_with_their_numbers() -> None:
    first, second = [5] * 50 + [9] * 48, [1] * 98
    shown = representation(codes=codes(first, second))
    picture = draw_utterance(utterance(representations=(shown,)))
    ribbon = image(picture, "a: codes")
    np.testing.assert_array_equal(ribbon.get_array(), code_colours(np.array([first, second])))
    start = (200 - 80) / 16_000
    assert ribbon.get_extent() == pytest.approx((start, start + 0.98, 1.5, -0.5))
    assert names(picture, "a: codes") == ["5", "9", "1"]
    places = [text.get_position() for text in panel(picture, "a: codes").texts]
    assert places[0] == (pytest.approx(start + 0.25), 0)
    assert places[2] == (pytest.approx(start + 0.49), 1)
    told = [text.get_text() for axes in picture.figure.axes for text in axes.texts]
    assert "2, 1 codes used\nin 98 frames" in told


@pytest.mark.usefixtures("not_laid_out")
def test_a_long_utterance_is_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COLUMNS", 40)
    monkeypatch.setattr(module, "MAX_SIMILARITY_COLUMNS", 30)
    numbers = codes(list(range(98)))
    example = utterance(representations=(representation(codes=numbers),))
    picture = draw_utterance(example)
    frames = example.mel.frames
    assert len(frames) == 98
    columns = np.asarray(image(picture, "log mel").get_array())
    assert columns.shape == (80, 33)
    np.testing.assert_allclose(columns[:, 1], frames[3:6].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(columns[:, -1], frames[96:].mean(axis=0), rtol=1e-5)
    end = (200 - 80) / 16_000 + 33 * 3 * 0.01
    for name in ("log mel", "a, b_1: principal components", "a: codes"):
        assert image(picture, name).get_extent()[1] == pytest.approx(end)
    ribbon = np.asarray(image(picture, "a: codes").get_array())
    np.testing.assert_array_equal(ribbon[0], code_colours(np.arange(0, 98, 3)))
    assert image(picture, "self-similarity").get_array().shape == (25, 25)


@pytest.mark.parametrize("num_samples", [400, 560])
def test_silence_and_single_frames_can_be_drawn(tmp_path: Path, num_samples: int) -> None:
    num_frames = GEOMETRY.num_frames(num_samples)
    silent = FrameSequence(frames=np.zeros((num_frames, 3), dtype=np.float32), geometry=GEOMETRY)
    waveform = np.zeros(num_samples, dtype=np.float32)
    shown = representation(sequence=silent)
    picture = draw_utterance(utterance(num_samples, waveform=waveform, representations=(shown,)))
    save_figure(picture.figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_a_comparison_has_every_representation_and_the_matrix() -> None:
    two = (representation(), representation(model="c", codes=codes([1] * 98)))
    layers = [("a", "b_0"), ("a", "b_1"), ("c", "b_1")]
    picture = draw_comparison(utterance(representations=two), similarity(*layers))
    assert [each.name for each in picture.panels] == [
        "waveform",
        "log mel",
        "a, b_1",
        "a, b_1: principal components",
        "c, b_1",
        "c, b_1: principal components",
        "c: codes",
    ]
    assert panel(picture, "a, b_1").get_title("left") == "a, b_1"
    edges = {tuple(np.round(each.axes.get_window_extent().intervalx)) for each in picture.panels}
    assert len(edges) == 1
    title = "similarity of all layers, from 1,234 moments"
    (matrix,) = [axes for axes in picture.figure.axes if axes.get_title() == title]
    np.testing.assert_array_equal(matrix.images[0].get_array(), similarity(*layers).matrix)
    assert matrix.images[0].get_clim() == (0, 1)
    for ticks in (matrix.get_xticklabels(), matrix.get_yticklabels()):
        assert [label.get_text() for label in ticks] == ["a b_0", "a b_1", "c b_1"]
    between = [line.get_xdata()[0] for line in matrix.lines if line.get_ydata()[0] == 0]
    assert between == [1.5]


@pytest.mark.usefixtures("not_laid_out")
def test_very_many_representations_are_ribbons_of_their_components() -> None:
    many = tuple(representation(layer=f"b_{index}") for index in range(9))
    picture = draw_comparison(utterance(representations=many), similarity(("a", "b_0")))
    assert [each.name for each in picture.panels][2:] == [
        f"a, b_{index}: principal components" for index in range(9)
    ]
    assert panel(picture, "a, b_4: principal components").get_ylabel() == "a, b_4"
    few = draw_comparison(utterance(representations=many[:8]), similarity(("a", "b_0")))
    assert len(few.panels) == 2 + 2 * 8


@pytest.mark.parametrize(
    "count", [1, *(pytest.param(count, marks=pytest.mark.whole) for count in (13, 60)), 150]
)
def test_names_of_many_layers_do_not_overlap(count: int) -> None:
    layers = [("wav2vec2_large_lv60", f"layer_{index}") for index in range(count)]
    picture = draw_comparison(utterance(), similarity(*layers))
    title = "similarity of all layers, from 1,234 moments"
    (matrix,) = [axes for axes in picture.figure.axes if axes.get_title() == title]
    for ticks in (matrix.get_xticklabels(), matrix.get_yticklabels()):
        boxes = [label.get_window_extent() for label in ticks]
        assert len(boxes) >= min(count, 40)
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
        canvas = picture.figure.bbox
        assert all(canvas.x0 <= b.x0 and canvas.y0 <= b.y0 and b.x1 <= canvas.x1 for b in boxes)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError):
        draw_utterance(utterance())


def test_the_global_state_of_pyplot_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    draw_utterance(utterance(1600))
