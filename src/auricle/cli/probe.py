"""`auricle probe`: measure the layers of frozen encoders with linear classifiers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.cli.options import (
    LAYER_HELP,
    MODEL_HELP,
    add_device,
    add_weights,
    check_folder,
    layer_argument,
    load_encoder,
    whole_number,
    words,
)
from auricle.errors import AuricleError

if TYPE_CHECKING:
    from auricle.models.base import Encoder
    from auricle.probing.results import ProbeResult
    from auricle.probing.tasks import Task

SUMMARY = "probe layers with linear classifiers"
TEXT = """\
Probe the layers of frozen encoders: train linear classifiers on them and measure their accuracy.

Tasks: phones (frames; librispeech/phones.tsv), words (means over time; arabic_words), speakers
(means over time; librispeech, split speakers). FOLDER is the corpus or the folder that holds it
under that name, or any input of extract whose list has the labels as columns. A folder of audio
alone is not enough; docs/probing.md shows samples of the files. Test examples are never trained on.

DIR receives TASK.json, TASK.png (accuracy over layers) and table.md, rewritten after each model.
Results of other models in it are kept, so a comparison can grow.

Needs more packages: pip install '.[probe]'.
"""
EXAMPLES = """\
examples:
  auricle probe --models fbank,tera_mini --task words --data tests/data/words --out probes
  auricle probe --model tera --task phones --data corpora/librispeech --out probes
  auricle probe --models fbank,mel,tera --task phones,words,speakers --data corpora --out probes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the models, their layers, the tasks and the folders."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    model.add_argument(
        "--models", metavar="MODEL,...", type=words, help="several, compared in one table"
    )
    parser.add_argument(
        "--task",
        metavar="TASK,...",
        type=words,
        required=True,
        help="phones, words, speakers, or several of them",
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        required=True,
        help="the corpus of the task, or a list with its labels as columns",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder to write results to")
    parser.add_argument(
        "--layers",
        metavar="LAYER,...",
        type=words,
        help=f"{LAYER_HELP} (default: all with a hop of 5 ms or more)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=whole_number,
        default=0,
        help="seed of the split of each speaker's utterances into training and test (default: 0)",
    )
    add_weights(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Probe, print accuracies, and write results after each model.

    Raises:
        AuricleError: A corpus, a model or a layer is wrong, scikit-learn or matplotlib is missing,
            or a result cannot be written.
    """
    from auricle.plotting.figures import check_plotting
    from auricle.probing.probe import check_classifier
    from auricle.probing.report import add_result, layer_lines, markdown_table, read_folder
    from auricle.probing.tasks import read_task

    check_classifier()
    models = arguments.models or [arguments.model]
    if len(models) > 1 and (arguments.checkpoint or arguments.config):
        raise AuricleError(
            "--checkpoint and --config are for one model; name checkpoints by their paths in "
            "--models, or pass --model"
        )
    out: Path | None = arguments.out
    if out is not None:
        check_folder(out)
        check_plotting(out / "figure.png")
    tasks = [read_task(name, arguments.data, seed=arguments.seed) for name in arguments.task]
    if out is not None:
        read_folder(out)  # raises before any work where results cannot be added
    results: list[ProbeResult] = []
    for model in models:
        arguments.model = model
        encoder = load_encoder(arguments)
        layers = _layers(encoder, arguments.layers)
        for task in tasks:
            result = _probe(encoder, task, layers, model)
            results.append(result)
            if out is not None:
                add_result(out, result)
            print("\n".join(layer_lines(result)), flush=True)
    print("", *markdown_table(results), sep="\n")
    if out is not None:
        print(f"\nwrote results and pictures to {out}")
    return 0


def _layers(encoder: Encoder, wanted: Sequence[str] | None) -> list[str] | None:
    """Resolve the layers of `--layers` to names; None for all."""
    if wanted is None or list(wanted) == ["all"]:
        return None
    return [encoder.layer_info(layer_argument(layer)).name for layer in wanted]


def _probe(encoder: Encoder, task: Task, layers: list[str] | None, model: str) -> ProbeResult:
    """Probe an encoder on one task, with a progress bar."""
    from tqdm import tqdm

    from auricle.corpus.reading import seconds_by_header
    from auricle.probing.probe import probe

    seconds = sum(seconds_by_header(utterance) or 0.0 for utterance in task.utterances)
    with tqdm(
        desc=f"{model}, {task.name}",
        total=seconds,
        unit="s",
        unit_scale=True,
        disable=None,
        leave=False,
    ) as bar:
        return probe(encoder, task, layers=layers, model=model, on_seconds=bar.update)
