from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle.errors import MissingExtraError, OutputError
from auricle.outputs import FrameGeometry, Window
from auricle.plotting import utterance as module
from auricle.plotting.utterance import (
    Sequence,
    Utterance,
    check_plotting,
    draw_utterance,
    save_figure,
)

GEOMETRY = FrameGeometry((Window(size=400, stride=160),))


def sequence(num_frames: int, dim: int) -> Sequence:
    frames = np.random.default_rng(dim).standard_normal((num_frames, dim), dtype=np.float32)
    return Sequence(frames=frames, geometry=GEOMETRY)


def utterance(num_samples: int = 16_000, **changes: Any) -> Utterance:
    num_frames = GEOMETRY.num_frames(num_samples)
    waveform = np.sin(np.arange(num_samples, dtype=np.float32))
    example = Utterance(
        title="a $title$ with_signs",
        waveform=waveform,
        sample_rate=16_000,
        mel=sequence(num_frames, 80),
        representation=sequence(num_frames, 6),
    )
    return dataclasses.replace(example, **changes)


def test_the_panels_share_the_time_axis_and_stand_in_line() -> None:
    figure = draw_utterance(utterance())
    figure.canvas.draw()
    panels, bars = figure.axes[:4], figure.axes[4:]
    assert len(bars) == 3
    for panel in panels:
        assert panel.get_xlim() == (0, 1)
        box = panel.get_position()
        assert (box.x0, box.x1) == pytest.approx(
            (panels[0].get_position().x0, panels[0].get_position().x1)
        )
    assert panels[3].get_ylim() == (0, 1)
    assert panels[3].get_xlabel() == "time (s)"
    (title,) = figure.texts
    assert title.get_text() == "a $title$ with_signs"
    assert not title.get_parse_math()


def test_each_frame_lies_around_its_centre() -> None:
    figure = draw_utterance(utterance())
    num_frames = GEOMETRY.num_frames(16_000)
    start = (200 - 80) / 16_000
    end = start + num_frames * 0.01
    for panel, dim in zip(figure.axes[1:3], (80, 6), strict=True):
        (image,) = panel.images
        assert image.get_extent() == pytest.approx((start, end, -0.5, dim - 0.5))
    (image,) = figure.axes[3].images
    assert image.get_extent() == pytest.approx((start, end, start, end))


def test_the_similarity_is_the_cosine() -> None:
    example = utterance()
    (image,) = draw_utterance(example).axes[3].images
    x = example.representation.frames.astype(np.float64)
    lengths = np.sqrt((x * x).sum(axis=1))
    np.testing.assert_allclose(image.get_array(), x @ x.T / np.outer(lengths, lengths))


def test_dims_are_sorted_only_where_they_have_no_order_of_their_own() -> None:
    plain = draw_utterance(utterance(sorts_dims=False)).axes[2]
    rows = np.asarray(plain.images[0].get_array())
    frames = utterance().representation.frames.astype(np.float64)
    np.testing.assert_allclose(rows, ((frames - frames.mean(0)) / frames.std(0)).T)
    ordered = draw_utterance(utterance()).axes[2]
    assert "similar ones together" in ordered.get_ylabel()
    np.testing.assert_allclose(np.sort(ordered.images[0].get_array(), axis=0), np.sort(rows, 0))
    assert not np.allclose(ordered.images[0].get_array(), rows)


def test_frequency_ticks_lie_in_their_bands() -> None:
    panel = draw_utterance(utterance()).axes[1]
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels == ["250", "500", "1000", "2000", "4000"]
    # HTK: 1000 Hz is 1000 mel of 2840; of 80 bands, peaks at multiples of a part in 81.
    assert panel.get_yticks()[2] == pytest.approx(1000 / 2840 * 81 - 1, abs=0.02)


def test_a_long_utterance_is_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COLUMNS", 40)
    monkeypatch.setattr(module, "MAX_SIMILARITY_COLUMNS", 30)
    example = utterance()
    figure = draw_utterance(example)
    (image,) = figure.axes[1].images
    frames = example.mel.frames
    assert len(frames) == 98
    columns = np.asarray(image.get_array())
    assert columns.shape == (80, 33)
    np.testing.assert_allclose(columns[:, 1], frames[3:6].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(columns[:, -1], frames[96:].mean(axis=0), rtol=1e-5)
    assert image.get_extent()[1] == pytest.approx((200 - 80) / 16_000 + 33 * 3 * 0.01)
    assert figure.axes[3].images[0].get_array().shape == (25, 25)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_a_figure_is_written_in_the_format_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(module, "DPI", 20)
    path = tmp_path / f"a{suffix}"
    check_plotting(path)
    save_figure(draw_utterance(utterance(1600, title="音声")), path)
    start = {".pdf": b"%PDF", ".svg": b"<?xml"}.get(suffix, b"\x89PNG")
    assert path.read_bytes().startswith(start)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("num_samples", [400, 560])
def test_silence_and_single_frames_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_samples: int
) -> None:
    monkeypatch.setattr(module, "DPI", 20)
    num_frames = GEOMETRY.num_frames(num_samples)
    silent = Sequence(frames=np.zeros((num_frames, 3), dtype=np.float32), geometry=GEOMETRY)
    waveform = np.zeros(num_samples, dtype=np.float32)
    example = utterance(num_samples, waveform=waveform, representation=silent)
    save_figure(draw_utterance(example), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_other_endings_are_refused() -> None:
    with pytest.raises(OutputError, match=r"expected a name that ends in \.png, \.pdf, \.svg"):
        check_plotting(Path("a.jpg"))


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install matplotlib"):
        check_plotting(Path("a.png"))
    with pytest.raises(MissingExtraError):
        draw_utterance(utterance())


def test_the_global_state_of_pyplot_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    draw_utterance(utterance(1600))
