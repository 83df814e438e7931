"""`auricle probe`: what the layers of frozen encoders make easy to tell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from auricle.audio.files import read_header
from auricle.cli.encoders import layer_argument, load_encoder
from auricle.cli.folders import check_folder
from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.plotting.figures import check_plotting, save_figure
from auricle.probing.classifier import check_classifier
from auricle.probing.pictures import draw_layers
from auricle.probing.probe import probe
from auricle.probing.results import (
    ProbeResult,
    read_comparable_results,
    with_result,
    write_results,
)
from auricle.probing.tables import layer_lines, markdown_table
from auricle.probing.tasks import TASKS, Task, read_task
from auricle.writing import write_whole


def run(arguments: argparse.Namespace) -> int:
    """Probe as the arguments say; results are written after each model.

    Raises:
        AuricleError: A corpus, a model or a layer is wrong, scikit-learn or matplotlib is missing,
            or a result cannot be written.
    """
    check_classifier()
    models = arguments.models or [arguments.model]
    if len(models) > 1 and (arguments.checkpoint or arguments.config):
        raise AuricleError(
            "--checkpoint and --config are for one model; name checkpoints by their paths in "
            "--models, or pass --model"
        )
    if arguments.out is not None:
        check_folder(arguments.out)
        check_plotting(arguments.out / "figure.png")
    tasks = [read_task(name, arguments.data, seed=arguments.seed) for name in arguments.task]
    _earlier_results(arguments.out)  # a folder that results cannot be added to is found at once
    own: list[ProbeResult] = []
    for model in models:
        arguments.model = model
        encoder = load_encoder(arguments)
        layers = _layers(encoder, arguments.layers)
        for task in tasks:
            result = _probe(encoder, task, layers, arguments)
            own.append(result)
            if arguments.out is not None:
                # Read again, as another run may have added to the folder meanwhile.
                earlier = _earlier_results(arguments.out)
                _write(arguments.out, task, with_result(earlier, result))
            print("\n".join(layer_lines(result)), flush=True)
    print("", *markdown_table(own), sep="\n")
    if arguments.out is not None:
        print(f"\nwrote results and pictures to {arguments.out}")
    return 0


def _earlier_results(folder: Path | None) -> list[ProbeResult]:
    """What the folder holds from earlier runs, of other models or other tasks as a rule.

    Raises:
        AuricleError: A file is no result, or was measured in another way.
    """
    if folder is None:
        return []
    paths = (folder / f"{task}.json" for task in TASKS)
    return [result for path in paths if path.exists() for result in read_comparable_results(path)]


def _probe(
    encoder: Encoder, task: Task, layers: list[str] | None, arguments: argparse.Namespace
) -> ProbeResult:
    with tqdm(
        desc=f"{arguments.model}, {task.name}",
        total=_total_seconds(task),
        unit="s",
        unit_scale=True,
        disable=None,
        leave=False,
    ) as bar:
        return probe(
            encoder,
            task,
            layers=layers,
            model=arguments.model,
            on_seconds=bar.update,
        )


def _total_seconds(task: Task) -> float:
    return sum(read_header(utterance.path).seconds or 0.0 for utterance in task.utterances)


def _layers(encoder: Encoder, wanted: Sequence[str] | None) -> list[str] | None:
    """Names of the layers that `--layers` lists, None for all."""
    if wanted is None or list(wanted) == ["all"]:
        return None
    return [encoder.layer_info(layer_argument(layer)).name for layer in wanted]


def _write(folder: Path, task: Task, results: Sequence[ProbeResult]) -> None:
    """TASK.json and TASK.png of all models so far, and the table of all tasks so far."""
    of_task = [result for result in results if result.task == task.name]
    write_results(folder / f"{task.name}.json", of_task)
    save_figure(draw_layers(of_task), folder / f"{task.name}.png")
    text = "\n".join(markdown_table(results)) + "\n"

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_whole(folder / "table.md", write)
