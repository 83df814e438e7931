from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from auricle.errors import MissingExtraError
from auricle.training.monitoring import (
    METRICS_FILE,
    Monitor,
    StepMeans,
    check_monitoring,
    draw_curves,
    read_metrics,
    save_curves,
)


def test_means_since_the_last_time() -> None:
    means = StepMeans()
    for value in (1.0, 3.0):
        means.add_step({"loss": value}, audio_seconds=4.0)
    means.add_parts({"accuracy": torch.tensor(0.5, requires_grad=True)})
    taken = means.take()
    assert (taken["loss"], taken["accuracy"]) == (2.0, 0.5)
    assert taken["audio_seconds_per_second"] > 0
    means.add_step({"loss": 5.0}, audio_seconds=0.0)
    assert means.take() == {"loss": 5.0, "audio_seconds_per_second": 0.0}


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    (tmp_path / METRICS_FILE).write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]


def test_means_of_nothing_are_no_error() -> None:
    assert StepMeans().take() == pytest.approx({"audio_seconds_per_second": 0.0})


LINE = {"loss": 1.0, "audio_seconds_per_second": 9.0}


def test_metrics_after_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    with Monitor(tmp_path, first_step=0, num_steps=9) as monitor:
        for step in (2, 4, 6):
            monitor.record(step, LINE)
    with Monitor(tmp_path, first_step=4, num_steps=9) as monitor:
        monitor.stepped()
        monitor.record(5, LINE | {"loss": 0.5})
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert lines[-1]["loss"] == 0.5


def test_events_are_written(tmp_path: Path) -> None:
    with Monitor(tmp_path, first_step=0, num_steps=9) as monitor:
        monitor.record(3, LINE)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


def test_nothing_is_shown_where_there_is_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, first_step=0, num_steps=9) as monitor:
        monitor.stepped()
        monitor.record(1, LINE)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_without_tensorboard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match="run pip install tensorboard"):
        check_monitoring()


LINES = [
    {"step": step, "learning_rate": 0.1, "loss": 100.0 / step, "epoch": 0.0, "seconds": 2.0 * step}
    for step in range(1, 101)
]


def test_a_panel_for_each_metric_the_loss_first() -> None:
    figure = draw_curves("apc_mini $", LINES)
    assert [panel.get_title() for panel in figure.axes] == ["loss", "learning rate"]
    raw, smoothed = figure.axes[0].lines
    assert list(raw.get_ydata()) == [line["loss"] for line in LINES]
    middle = sum(line["loss"] for line in LINES[48:53]) / 5
    assert abs(smoothed.get_ydata()[50] - middle) < 1e-9


def test_the_picture_is_written(tmp_path: Path) -> None:
    save_curves("apc_mini", LINES[:1], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
