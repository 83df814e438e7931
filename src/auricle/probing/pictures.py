"""The picture of a task: accuracy over the layers of each model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.optional import optional
from auricle.plotting.figures import check_plotting
from auricle.probing.results import ProbeResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (8.0, 4.5)


def draw_layers(results: Sequence[ProbeResult]) -> Figure:
    """The figure of one or more models on one task.

    Alone, a model has its layers by name on the axis. Several share an axis that counts layers
    from the first one probed, and those of a single layer are level dashed lines. A ring marks
    the default layer.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_plotting(Path("figure.png"))
    with optional("matplotlib", "drawing"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    panel = figure.add_subplot()
    for index, result in enumerate(results):
        _draw_model(panel, result, f"C{index % 10}", is_level=len(results) > 1)
    longest = max(results, key=lambda result: len(result.layers))
    places = range(len(longest.layers))
    if len(results) == 1:
        panel.set_xticks(places, [layer.name for layer in longest.layers], rotation=30, ha="right")
    else:
        panel.set_xticks(places, [str(place + 1) for place in places])
    majority = 100 * results[0].majority_accuracy
    panel.axhline(majority, color="0.6", linestyle=":", label="most frequent label")
    panel.set_xlabel("layer")
    panel.set_ylabel("accuracy (%)")
    panel.set_title(f"{results[0].task}: linear probes of frozen layers")
    panel.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def _draw_model(panel: Axes, result: ProbeResult, colour: str, *, is_level: bool) -> None:
    accuracies = [100 * layer.accuracy for layer in result.layers]
    label = result.model.replace("$", r"\$")  # no formulas
    if is_level and len(accuracies) == 1:
        panel.axhline(accuracies[0], color=colour, linestyle="--", label=label)
        return
    panel.plot(range(len(accuracies)), accuracies, color=colour, marker=".", label=label)
    for place, layer in enumerate(result.layers):
        if layer.name == result.default_layer:
            panel.plot(place, accuracies[place], "o", color=colour, fillstyle="none", markersize=10)
