from __future__ import annotations

from pathlib import Path

from auricle.training.curves import draw_curves, save_curves

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
