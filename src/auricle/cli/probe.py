"""`auricle probe`: measure the layers of frozen encoders, and units of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.cli.options import (
    LAYER_HELP,
    MODEL_HELP,
    add_device,
    add_labels,
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
    from auricle.probing.abx_report import AbxResult
    from auricle.probing.report import ProbeResult
    from auricle.probing.tasks import Task

SUMMARY = "probe layers with your own labels, or with tasks"
TEXT = """\
Probe the layers of frozen encoders: train linear models on them and measure what they predict of
unseen speech, with your own labels or on a task; or measure the ABX error of phones.

Your own labels: --labels is a table (.csv .tsv .parquet .jsonl .json) with a column of files (path,
file) or ids (id) and one of labels; columns start and end in seconds label segments. Or it labels
frames: a folder of .TextGrid or .ctm files named like the audio, a .ctm, or a text of Kaldi's
(utterance id id id ...; .ali), any of them .gz; a frame has the label that is there at its centre.
A column split (train, test, dev) is used where there is one; else the utterances are drawn into
--folds, stratified by label, with --group by a column such as the speaker. DIR receives
results.json and results.png; a run that was killed goes on with the next model.

Tasks with classifiers: phones (frames; librispeech/phones.tsv), words (means over time;
arabic_words), speakers (means over time; librispeech, split speakers). FOLDER is the corpus or the
folder that holds it under that name, or any input of extract whose list has the labels as columns.
A folder of audio alone is not enough; docs/probing.md shows samples of the files. Test examples are
never trained on.

DIR receives TASK.json, TASK.png (accuracy over layers) and table.md, rewritten after each model.
Results of other models in it are kept, so a comparison can grow.

The task abx needs no classifier: how often is a phone X nearer to another phone B than to A, the
same phone, within and across speakers? It takes the items of --items, or makes them of the phones
of FOLDER, as the task phones reads them. DIR receives abx.json, abx.png and abx.md.

The task units takes --units in place of a model, and the labels of the task phones: purity of
phones and clusters, phone-normalised mutual information, and bitrate. DIR receives units.json and
units.md.

Needs more packages: pip install '.[probe]'.
"""
EXAMPLES = """\
examples:
  auricle probe audio/ --labels table.csv --models fbank apc_mini --out results
  auricle probe audio/ --labels table.csv --group speaker --model apc_mini --layers all
  auricle probe audio/ --labels ages.tsv --label-column age --regression --model apc_mini
  auricle probe audio/ --labels aligned/ --tier phones --model apc_mini
  auricle probe audio/ --labels ali.1.gz --frame-shift 0.03 --splits splits.csv --model apc_mini
  auricle probe --models fbank,tera_mini --task words --data tests/data/words --out probes
  auricle probe --model tera --task phones --data corpora/librispeech --out probes
  auricle probe --models fbank,mel,tera --task phones,words,speakers --data corpora --out probes
  auricle probe --models fbank,tera_mini --task abx --data corpora/librispeech --out probes
  auricle probe --model hubert --task abx --data audio --items triphones.item
  auricle probe --units units.safetensors --task units --data corpora/librispeech --out probes
"""

LINEAR_TASKS = "phones, words, speakers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the audio, the models, their layers, the labels, the tasks and the folders."""
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="*",
        help="audio of --labels as extract takes it; none where the table has paths",
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    model.add_argument(
        "--models", metavar="MODEL", nargs="+", type=words, help="several, after INPUT"
    )
    model.add_argument(
        "--units",
        metavar="FILE",
        type=Path,
        help="units of `auricle units`, for the task units; they name their encoder",
    )
    parser.add_argument(
        "--task",
        metavar="TASK,...",
        type=words,
        default=[],
        help=f"{LINEAR_TASKS}, abx, or several of them; or units",
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
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
        help="seed of the folds of --labels, or of the halves of each speaker (default: 0)",
    )
    add_labels(parser)
    _add_abx(parser)
    add_weights(parser)
    add_device(parser)


def _add_abx(parser: argparse.ArgumentParser) -> None:
    abx = parser.add_argument_group("items of the task abx")
    abx.add_argument(
        "--items",
        metavar="FILE",
        type=Path,
        help="an item file of ZeroSpeech's, with FOLDER any input of extract",
    )
    abx.add_argument(
        "--save-items", metavar="FILE", type=Path, help="write the items of FOLDER's phones"
    )
    abx.add_argument(
        "--triphone",
        action="store_true",
        help="items from the onset of the phone before to the offset of the phone after",
    )
    abx.add_argument(
        "--any-context", action="store_true", help="compare phones whatever their neighbours"
    )
    abx.add_argument(
        "--distance",
        choices=("angular", "euclidean"),
        default="angular",
        help="between frames (default: angular)",
    )
    abx.add_argument(
        "--max-group",
        metavar="N",
        type=whole_number,
        default=10,
        help="most items of one phone, context and speaker, drawn by --seed; 0 for all "
        "(default: 10)",
    )
    abx.add_argument(
        "--max-speakers",
        metavar="N",
        type=whole_number,
        default=5,
        help="most speakers of X for one A and its speaker, drawn by --seed; 0 for all "
        "(default: 5)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Probe, print accuracies and errors, and write results after each model.

    Raises:
        AuricleError: A corpus, a model or a layer is wrong, scikit-learn or matplotlib is missing,
            or a result cannot be written.
    """
    from auricle.plotting.figures import check_plotting
    from auricle.probing.probe import check_classifier
    from auricle.probing.report import markdown_table, read_folder
    from auricle.probing.tasks import read_task

    _settle(arguments)
    if arguments.labels is not None:
        return _run_labels(arguments)
    if arguments.units is not None or "units" in arguments.task:
        return _run_units(arguments)
    linear = [name for name in arguments.task if name != "abx"]
    if linear:
        check_classifier()
    models = arguments.models
    out: Path | None = arguments.out
    if out is not None:
        check_folder(out)
        check_plotting(out / "figure.png")
    tasks = [read_task(name, arguments.data, seed=arguments.seed) for name in linear]
    abx = _Abx(arguments, out) if "abx" in arguments.task else None
    if out is not None and linear:
        read_folder(out)  # raises before any work where results cannot be added
    results: list[ProbeResult] = []
    for model in models:
        encoder = _load(arguments, model)
        layers = _layers(encoder, arguments.layers)
        results += [_probe(encoder, task, layers, model, out) for task in tasks]
        if abx is not None:
            abx.measure(encoder, layers, model)
    if results:
        print("", *markdown_table(results), sep="\n")
    if abx is not None:
        print("", *abx.table(), sep="\n")
    if out is not None:
        print(f"\nwrote results and pictures to {out}")
    return 0


def _settle(arguments: argparse.Namespace) -> None:
    """Check what belongs together, and put the names of all models into `models`.

    Raises:
        AuricleError: An option lacks another, or excludes it.
    """
    named = [name for several in arguments.models or [] for name in several]
    if len(set(named)) < len(named):
        raise AuricleError(f"--models names a model twice: {' '.join(named)}")
    arguments.models = named or [arguments.model]
    if len(named) > 1 and (arguments.checkpoint or arguments.config):
        raise AuricleError(
            "--checkpoint and --config are for one model; name checkpoints by their paths in "
            "--models, or pass --model"
        )
    if arguments.labels is not None:
        if arguments.task or arguments.units:
            raise AuricleError("--labels is a task of its own: leave out --task and --units")
        arguments.inputs += [] if arguments.data is None else [arguments.data]
        return
    if arguments.data is None and len(arguments.inputs) == 1:
        (arguments.data,) = arguments.inputs
    elif arguments.inputs:
        raise AuricleError("several inputs need --labels; a task takes one folder, as --data")
    if arguments.data is None or not arguments.task:
        raise AuricleError(
            "nothing to measure: pass --labels LABELS, or --task TASK with --data FOLDER"
        )


def _run_labels(arguments: argparse.Namespace) -> int:
    """Probe with labels of one's own, and print the scores of each model."""
    from auricle.plotting.figures import check_plotting
    from auricle.probing.own_labels import read_own_task
    from auricle.probing.own_report import probe_models, score_lines, setting_lines, settings_of
    from auricle.probing.probe import check_classifier

    check_classifier()
    out: Path | None = arguments.out
    if out is not None:
        check_folder(out)
        check_plotting(out / "figure.png")
    own = read_own_task(
        arguments.labels,
        arguments.inputs,
        column=arguments.label_column,
        is_regression=arguments.regression,
        tier=arguments.tier,
        frame_shift_seconds=arguments.frame_shift,
        splits=arguments.splits,
        group=arguments.group,
        num_folds=arguments.folds,
        num_seeds=arguments.seeds,
        seed=arguments.seed,
    )
    settings = settings_of(own)
    print("\n".join(setting_lines(settings)), flush=True)
    layers = None if arguments.layers in (None, ["all"]) else arguments.layers
    names = None if layers is None else [layer_argument(layer) for layer in layers]
    wanted = [name for name in names or () if name is not None]
    models = ((model, _load(arguments, model)) for model in arguments.models)
    for result, was_kept in probe_models(own, models, layers=wanted or None, out=out):
        print("", *score_lines(settings, result), sep="\n", flush=True)
        if was_kept:
            print("  measured by an earlier run")
    if out is not None:
        print(f"\nwrote results and a picture to {out}")
    return 0


def _load(arguments: argparse.Namespace, model: str) -> Encoder:
    arguments.model = model
    return load_encoder(arguments)


def _run_units(arguments: argparse.Namespace) -> int:
    """Measure the worth of a file of units, print it and write the result."""
    from auricle.probing.features import seconds_bar
    from auricle.probing.tasks import read_phones
    from auricle.probing.units import add_units, measure_units, read_units_results, units_lines
    from auricle.units.codebook import load_units

    if arguments.units is None or arguments.task != ["units"]:
        raise AuricleError(
            "the task units measures a file of units, with the encoder that they name: pass "
            "--task units --units FILE without other tasks, and no --model"
        )
    out: Path | None = arguments.out
    if out is not None:
        check_folder(out)
        read_units_results(out / "units.json")  # raises before any work
    units = load_units(arguments.units)
    _, utterances = read_phones(arguments.data)
    encoder = units.load_encoder(device=arguments.device)
    name = arguments.units.name
    with seconds_bar(f"{name}, units", utterances) as bar:
        result = measure_units(encoder, units, utterances, name=name, on_seconds=bar.update)
    if out is not None:
        add_units(out, result)
    print("\n".join(units_lines(result)))
    if out is not None:
        print(f"\nwrote results to {out}")
    return 0


def _layers(encoder: Encoder, wanted: Sequence[str] | None) -> list[str] | None:
    """Resolve the layers of `--layers` to names; None for all."""
    if wanted is None or list(wanted) == ["all"]:
        return None
    return [encoder.layer_info(layer_argument(layer)).name for layer in wanted]


def _probe(
    encoder: Encoder, task: Task, layers: list[str] | None, model: str, out: Path | None
) -> ProbeResult:
    """Probe an encoder on one task, with a progress bar; print and write the result."""
    from auricle.probing.features import seconds_bar
    from auricle.probing.probe import probe
    from auricle.probing.report import add_result, layer_lines

    with seconds_bar(f"{model}, {task.name}", task.utterances) as bar:
        result = probe(encoder, task, layers=layers, model=model, on_seconds=bar.update)
    if out is not None:
        add_result(out, result)
    print("\n".join(layer_lines(result)), flush=True)
    return result


class _Abx:
    """The task abx: its items and settings, and the results so far."""

    def __init__(self, arguments: argparse.Namespace, out: Path | None) -> None:
        from auricle.probing.abx_report import abx_settings, comparable_abx
        from auricle.probing.items import read_item_task, write_items

        self._task = read_item_task(arguments.data, arguments.items, triphones=arguments.triphone)
        self._out = out
        self._results: list[AbxResult] = []
        self._settings = abx_settings(
            self._task,
            any_context=arguments.any_context,
            distance=arguments.distance,
            max_group=arguments.max_group or None,
            max_speakers=arguments.max_speakers or None,
            seed=arguments.seed,
        )
        if out is not None:
            comparable_abx(out, self._settings)  # raises before any work
        if arguments.save_items is not None:
            write_items(arguments.save_items, chain.from_iterable(self._task.items))

    def measure(self, encoder: Encoder, layers: list[str] | None, model: str) -> None:
        """Measure a model, with progress bars; print and write the result."""
        from tqdm import tqdm

        from auricle.probing.abx_report import abx_lines, add_abx, measure_abx
        from auricle.probing.features import seconds_bar

        with (
            seconds_bar(f"{model}, abx", self._task.utterances) as seconds,
            tqdm(desc=f"{model}, scores", total=1.0, disable=None, leave=False) as scores,
        ):
            result = measure_abx(
                encoder,
                self._task,
                self._settings,
                layers=layers,
                model=model,
                on_seconds=seconds.update,
                on_share=scores.update,
            )
        self._results.append(result)
        if self._out is not None:
            add_abx(self._out, self._settings, result)
        print("\n".join(abx_lines(result)), flush=True)

    def table(self) -> list[str]:
        """Lines of the table of all models."""
        from auricle.probing.abx_report import abx_table

        return abx_table(self._results)
