"""Results as text: the table of models and tasks, and the lines of one model's layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auricle.probing.results import ProbeResult

NOTHING = "-"


def markdown_table(results: Sequence[ProbeResult]) -> list[str]:
    """Lines of a Markdown table: a row for each model, its best and default layer for each task.

    Accuracies are in percent, the best layer's name stands behind its own. Models and tasks keep
    the order in which they come first; what was not run is a dash.
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
    """What one model's layers reach in one task, a line for each, and how it was measured."""
    yield (
        f"{result.model}, {result.task}: {result.num_classes} labels, the most frequent one "
        f"{percent(result.majority_accuracy)} %"
    )
    for layer in result.layers:
        marks = [
            mark
            for mark, holds in (
                ("best", layer is result.best),
                ("default", layer.name == result.default_layer),
                ("solver not done", not layer.converged),
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
    """A share from 0 to 1 in percent, to a tenth."""
    return f"{100 * share:.1f}"
