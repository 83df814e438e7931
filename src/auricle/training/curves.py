"""The picture of a training: its metrics over its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.optional import optional
from auricle.plotting.figures import check_plotting, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_COLUMNS = 2
PANEL_INCHES = (5.0, 2.6)
NOT_DRAWN = frozenset({"step", "epoch", "seconds"})
SMOOTHED_FRACTION = 0.05
"""Part of the points that the mean of a smoothed curve goes over."""


def check_curves() -> None:
    """Find out before any work whether a picture can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_plotting(Path("curves.png"))


def draw_curves(title: str, lines: Sequence[dict[str, float]]) -> Figure:
    """One panel for each metric, the loss first, thin as it is and bold smoothed.

    `lines` are those of `read_metrics`, one or more.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_curves()
    with optional("matplotlib", "drawing"):
        from matplotlib.figure import Figure
    names = [name for name in lines[-1] if name not in NOT_DRAWN]
    names.sort(key=lambda name: name != "loss")
    num_rows = -(-len(names) // NUM_COLUMNS)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * NUM_COLUMNS, height * num_rows + 0.5), layout="constrained")
    for index, name in enumerate(names):
        panel = figure.add_subplot(num_rows, NUM_COLUMNS, index + 1)
        points = [(line["step"], line[name]) for line in lines if name in line]
        steps = [step for step, _ in points]
        values = [value for _, value in points]
        panel.plot(steps, values, color="0.7", linewidth=0.8)
        panel.plot(steps, _smoothed(values), color="tab:blue", linewidth=1.5)
        panel.set_title(name.replace("_", " "), fontsize="medium")
        panel.grid(alpha=0.3)
        panel.set_xlabel("step")
    figure.suptitle(title, parse_math=False)
    return figure


def save_curves(title: str, lines: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the metrics of a training into `path`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: The picture cannot be written.
    """
    save_figure(draw_curves(title, lines), path)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Means over windows around each point, narrower at the ends."""
    reach = int(len(values) * SMOOTHED_FRACTION / 2)
    means = []
    for index in range(len(values)):
        near = min(reach, index, len(values) - 1 - index)
        window = values[index - near : index + near + 1]
        means.append(sum(window) / len(window))
    return means
