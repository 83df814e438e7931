"""A folder of probing results, which grows with each model and each task."""

from __future__ import annotations

from pathlib import Path

from auricle.files.atomic import write_whole
from auricle.plotting.figures import save_figure
from auricle.probing.pictures import draw_layers
from auricle.probing.results import (
    ProbeResult,
    read_comparable_results,
    with_result,
    write_results,
)
from auricle.probing.tables import markdown_table
from auricle.probing.tasks import TASKS


def read_folder(folder: Path) -> list[ProbeResult]:
    """Read the results of earlier runs, of any model and any task; none where there is no folder.

    Raises:
        AuricleError: A file is no result, or was measured in another way.
    """
    paths = (folder / f"{task}.json" for task in TASKS)
    return [result for path in paths if path.exists() for result in read_comparable_results(path)]


def add_result(folder: Path, new: ProbeResult) -> None:
    """Add a result to a folder, replacing one of the same model and task.

    Rewrites TASK.json and TASK.png (accuracy over layers) of all models of its task, and table.md
    of all tasks.

    Raises:
        AuricleError: The folder holds results measured in another way, matplotlib is missing, or
            a file cannot be written.
    """
    # Read for every result, as another run may have added to the folder meanwhile.
    results = with_result(read_folder(folder), new)
    of_task = [result for result in results if result.task == new.task]
    write_results(folder / f"{new.task}.json", of_task)
    save_figure(draw_layers(of_task), folder / f"{new.task}.png")
    text = "\n".join(markdown_table(results)) + "\n"
    write_whole(folder / "table.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
