"""Reports of probing results: Markdown table, figures of accuracy over layers, and a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.files.atomic import write_whole
from auricle.optional import optional
from auricle.plotting.figures import check_plotting, save_figure
from auricle.probing.results import (
    ProbeResult,
    read_comparable_results,
    with_result,
    write_results,
)
from auricle.probing.tasks import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


NOTHING = "-"


def markdown_table(results: Sequence[ProbeResult]) -> list[str]:
    """Lines of a Markdown table: one row per model, its best and default layer for each task.

    Accuracies are in percent, followed by the name of the best layer. Models and tasks keep the
    order of their first result; missing results are a dash.
    """
    models = list(dict.fromkeys(result.model for result in results))
    tasks = list(dict.fromkeys(result.task for result in results))
    by_place = {(result.model, result.task): result for result in results}
    header = ["model", *(f"{task}, {which}" for task in tasks for which in ("best", "default"))]
    rows = [[f"`{m}`", *_cells(by_place, m, tasks)] for m in models]
    marks = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *rows)]


def _cells(
    by_place: dict[tuple[str, str], ProbeResult], model: str, tasks: Sequence[str]
) -> Iterator[str]:
    for task in tasks:
        result = by_place.get((model, task))
        if result is None:
            yield from (NOTHING, NOTHING)
            continue
        yield f"{percent(result.best.accuracy)} ({result.best.name})"
        yield NOTHING if result.default is None else percent(result.default.accuracy)


def layer_lines(result: ProbeResult) -> Iterator[str]:
    """Text lines of a result: one per layer, between a heading and the settings."""
    yield (
        f"{result.model}, {result.task}: {result.num_classes} labels, majority class "
        f"{percent(result.majority_accuracy)} %"
    )
    for layer in result.layers:
        marks = [
            mark
            for mark, holds in (
                ("best", layer is result.best),
                ("default", layer.name == result.default_layer),
                ("not converged", not layer.converged),
            )
            if holds
        ]
        yield (
            f"  {layer.name:<16}{layer.dim:>6} dims{percent(layer.accuracy):>7} %  "
            f"{', '.join(marks)}"
        ).rstrip()
    first = result.layers[0]
    step = "" if first.frame_step == 1 else f" (one frame in {first.frame_step})"
    yield (
        f"  mean of {len(result.folds)} fold(s) of {first.num_train:.0f} training and "
        f"{first.num_test:.0f} test examples{step}; {result.encoding_seconds:.0f} s to encode, "
        f"{result.fitting_seconds:.0f} s to fit"
    )
    if result.skipped_layers:
        yield f"  not probed: {', '.join(result.skipped_layers)}"


def percent(share: float) -> str:
    """Format a fraction in percent, with one decimal."""
    return f"{100 * share:.1f}"


SIZE_INCHES = (8.0, 4.5)


def draw_layers(results: Sequence[ProbeResult]) -> Figure:
    """Figure of accuracy over layers, for one or more models on one task.

    The layers of a single model are named on the axis. Several models share an axis that counts
    layers from the first one probed; a model with a single layer is a dashed horizontal line. A
    ring marks the default layer.

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
    panel.axhline(majority, color="0.6", linestyle=":", label="majority class")
    panel.set_xlabel("layer")
    panel.set_ylabel("accuracy (%)")
    panel.set_title(f"{results[0].task}: linear probes of frozen layers")
    panel.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def _draw_model(panel: Axes, result: ProbeResult, colour: str, *, is_level: bool) -> None:
    accuracies = [100 * layer.accuracy for layer in result.layers]
    label = result.model.replace("$", r"\$")  # no mathtext
    if is_level and len(accuracies) == 1:
        panel.axhline(accuracies[0], color=colour, linestyle="--", label=label)
        return
    panel.plot(range(len(accuracies)), accuracies, color=colour, marker=".", label=label)
    for place, layer in enumerate(result.layers):
        if layer.name == result.default_layer:
            panel.plot(place, accuracies[place], "o", color=colour, fillstyle="none", markersize=10)


def read_folder(folder: Path) -> list[ProbeResult]:
    """Read the results of earlier runs, of all models and tasks; none if there is no folder.

    Raises:
        AuricleError: A file is not a file of results, or its settings differ.
    """
    paths = (folder / f"{task}.json" for task in TASKS)
    return [result for path in paths if path.exists() for result in read_comparable_results(path)]


def add_result(folder: Path, new: ProbeResult) -> None:
    """Add a result to a folder, replacing that of the same model and task.

    Rewrites TASK.json and TASK.png (accuracy over layers) with all models of its task, and table.md
    with all tasks.

    Raises:
        AuricleError: The folder holds results with other settings, matplotlib is missing, or a file
            cannot be written.
    """
    # Read again for every result, as another run may have added to the folder.
    results = with_result(read_folder(folder), new)
    of_task = [result for result in results if result.task == new.task]
    write_results(folder / f"{new.task}.json", of_task)
    save_figure(draw_layers(of_task), folder / f"{new.task}.png")
    text = "\n".join(markdown_table(results)) + "\n"
    write_whole(folder / "table.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
