"""Commands that learn from audio: `auricle pretrain` and `auricle units`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.cli.options import (
    MODEL_HELP,
    check_folder,
    count,
    layer_argument,
    positive_number,
    whole_number,
)

if TYPE_CHECKING:
    from auricle.units.codebook import Units

SIGNAL_STATUS = 128
"""Offset that shells add to the number of the signal that ended a command."""

MAX_LINES = 10
"""Lines of distances that `info` prints."""

LAYER_HELP = "index or name of the layer, or a tap such as layer_9.pre_residual"

FINAL_NORMS = ("keep", "strip", "each")


class Pretrain:
    """The command `auricle pretrain`."""

    SUMMARY = "pretrain an encoder"

    TEXT = """\
Pretrain an encoder from random weights with its family's own loss, as a recipe says.

RECIPE is a TOML file; docs/pretraining.md describes it, recipes/ holds some for each family that
has a loss here: apc, audio_albert, cpc, hubert, mockingjay, npc, pase, tera, vq_apc, vq_wav2vec,
wav2vec and wav2vec2.
DIR receives checkpoints, metrics.jsonl, TensorBoard events, a plot of the curves and, at the
end, NAME.safetensors, which every command takes as a model. Training resumes from the last
checkpoint in DIR of the same recipe and audio. Ctrl-C or SIGTERM end it after a checkpoint.

Several GPUs or machines: torchrun --nproc_per_node N -m auricle pretrain ...

Needs more packages: pip install '.[train]'.
"""

    EXAMPLES = """\
examples:
  auricle pretrain recipes/mini/apc.toml --data LibriSpeech/train-clean-100 --out runs/apc_mini
  auricle pretrain recipes/tera.toml --data manifest.tsv --split train --out runs/tera --workers 8
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the recipe, the audio and the folder to write to."""
        parser.add_argument("recipe", metavar="RECIPE", type=Path, help="TOML file")
        parser.add_argument(
            "--data",
            metavar="PATH",
            nargs="+",
            required=True,
            help="folders, searched recursively for audio, manifests (such as TSV with the "
            "columns path, samples and, if you like, split), archives and data sets: every input "
            "of extract",
        )
        parser.add_argument(
            "--split", metavar="SPLIT", help="rows of the lists to train on, by their column split"
        )
        parser.add_argument(
            "--out",
            metavar="DIR",
            type=Path,
            required=True,
            help="folder to write to, created if missing",
        )
        parser.add_argument(
            "--steps", metavar="N", type=count, help="number of steps (default: the recipe's)"
        )
        parser.add_argument(
            "--workers",
            metavar="N",
            type=whole_number,
            default=1,
            help="decoding processes (default: 1)",
        )
        parser.add_argument(
            "--cache-audio",
            action="store_true",
            help="decode all audio once and keep it in memory, 230 MB per hour",
        )
        parser.add_argument(
            "--device",
            choices=("auto", "cpu", "cuda"),
            default="auto",
            help="device to train on; auto takes a GPU if there is one (default: auto)",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Train; the status is 128 and the signal's number if one stopped it.

        Raises:
            AuricleError: The recipe, the audio or a checkpoint is wrong, the loss is not finite, or
                something cannot be written.
        """
        from auricle.training.building import read_corpus
        from auricle.training.monitoring import read_metrics
        from auricle.training.recipe import read_recipe
        from auricle.training.trainer import CURVES_FILE, RunSettings, train

        recipe = read_recipe(arguments.recipe)
        if arguments.steps is not None:
            recipe = recipe.with_steps(arguments.steps)
        check_folder(arguments.out)
        corpus = read_corpus(arguments.data, split=arguments.split)
        settings = RunSettings(
            device=arguments.device,
            num_workers=arguments.workers,
            caches_audio=arguments.cache_audio,
        )
        outcome = train(recipe, corpus, arguments.out, settings)
        if outcome.is_main and outcome.result is not None:
            print(f"wrote {outcome.result} after {outcome.step} steps")
        elif outcome.is_main:
            print(
                f"stopped after step {outcome.step} of {recipe.identity.steps}; run the same "
                "command to resume"
            )
        lines = read_metrics(arguments.out) if outcome.is_main else []
        if lines:
            first, last = (
                f"{line['loss']:.4f} (up to step {line['step']})" for line in (lines[0], lines[-1])
            )
            losses = f"loss from {first} to {last}" if len(lines) > 1 else f"loss {first}"
            print(f"{losses}; curves: {arguments.out / CURVES_FILE}")
        return 0 if outcome.result is not None else SIGNAL_STATUS + outcome.stopped_by


class FitUnits:
    """The command `auricle units`."""

    SUMMARY = "fit discrete units (k-means on a layer), read those of others, show them"

    TEXT = """\
Fit discrete units on a layer of an encoder, read units of others, show a file of units.

fit runs mini-batch k-means over audio, or over a store of frames, of any size. The same data,
options and seed give the same file, and a run that was killed goes on where it was.
import reads centroids of scikit-learn (joblib, pickle: km.bin of fairseq and textless), .npy, .npz,
.pt, .safetensors and flat indexes of faiss, and executes nothing in them. The layer that they are
of is in none of these files, so it has to be given.
info shows the encoder and the layer of a file of units, and the distances while it was fitted.

fit needs more packages: pip install '.[probe]'.
"""

    EXAMPLES = """\
examples:
  auricle units fit corpus/ --model hubert --layer 9 --clusters 500 --out units.safetensors
  auricle units fit features/ --layer layer_9 --clusters 500 --residual 4 --out stack.safetensors
  auricle units import km.bin --model hubert --layer 9 --out units.safetensors
  auricle units info units.safetensors
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the actions and their arguments."""
        parser.set_defaults(parser=parser)
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        _add_fit(actions.add_parser("fit", help="fit units", allow_abbrev=False))
        reading = actions.add_parser("import", help="read units of others", allow_abbrev=False)
        reading.add_argument("file", metavar="FILE", type=Path, help="file with centroids")
        reading.add_argument("--model", metavar="MODEL", required=True, help=MODEL_HELP)
        _add_layer(reading)
        reading.add_argument(
            "--key",
            metavar="NAME",
            help="array of centroids, in a file of several: names with dots",
        )
        reading.add_argument(
            "--normalize",
            choices=("none", "l2"),
            default="none",
            help="change of frames before the search: l2 divides by their norm (default: none)",
        )
        info = actions.add_parser("info", help="show a file of units", allow_abbrev=False)
        info.add_argument("file", metavar="FILE", type=Path, help="file of units")

    def run(self, arguments: argparse.Namespace) -> int:
        """Fit, read or show units.

        Raises:
            AuricleError: An input, a model, a layer or an option is wrong, or a file cannot be
                read or written.
        """
        if arguments.action is None:
            arguments.parser.exit(2, arguments.parser.format_help())
        if arguments.action == "info":
            from auricle.units.codebook import load_units

            print("\n".join(info_lines(load_units(arguments.file))))
            return 0
        units = _fit(arguments) if arguments.action == "fit" else _import(arguments)
        print("\n".join(info_lines(units)))
        print(f"wrote {arguments.out}")
        return 0


def _add_layer(parser: argparse.ArgumentParser) -> None:
    """Add the layer, its weights, and the file to write."""
    parser.add_argument("--checkpoint", metavar="PATH", help="weights for a named MODEL")
    parser.add_argument("--layer", metavar="LAYER", required=True, help=LAYER_HELP)
    parser.add_argument(
        "--final-norm",
        choices=FINAL_NORMS,
        default="keep",
        help="norm after the last layer: on that layer, on none, on each (default: keep)",
    )
    parser.add_argument(
        "--out", metavar="UNITS", type=Path, required=True, help="file to write: .safetensors"
    )


def _add_fit(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a fit."""
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="audio as extract takes it, or a store of frames"
    )
    parser.add_argument("--model", metavar="MODEL", help=f"{MODEL_HELP}; a store names its own")
    _add_layer(parser)
    parser.add_argument(
        "--clusters", metavar="V", type=count, required=True, help="units of each stage"
    )
    parser.add_argument(
        "--residual",
        metavar="R",
        type=count,
        default=1,
        help="stages of a residual stack, each fitted on what those before leave (default: 1)",
    )
    parser.add_argument(
        "--passes",
        metavar="N",
        type=count,
        help="passes over the data in each stage (default: as many as make 100 steps)",
    )
    parser.add_argument(
        "--batch-frames",
        metavar="N",
        type=count,
        default=10_000,
        help="frames of a step, at least (default: 10000)",
    )
    parser.add_argument(
        "--sample",
        metavar="PART",
        type=positive_number,
        default=1.0,
        help="part of the utterances to use, up to 1 (default: 1)",
    )
    parser.add_argument(
        "--normalize",
        choices=("none", "l2", "standard"),
        default="none",
        help="change of frames before the search: l2 divides by their norm, standard subtracts "
        "mean and divides by deviation, per feature (default: none)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=whole_number,
        default=0,
        help="seed of first centroids, order and sample (default: 0)",
    )
    parser.add_argument(
        "--engine",
        choices=("sklearn", "faiss"),
        default="sklearn",
        help="library that computes the steps (default: sklearn)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="torch device to encode on (default: auto, a GPU if there is one, else the CPU)",
    )


def _fit(arguments: argparse.Namespace) -> Units:
    """Fit and write units, with a progress bar."""
    from tqdm import tqdm

    from auricle.units.fit import fit_units

    inputs = arguments.inputs
    with tqdm(
        desc="fitting",
        total=1.0,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]",
        disable=None,
        leave=False,
    ) as bar:

        def advance(part: float, num_steps: int, inertia: float) -> None:
            bar.set_postfix_str(f"step {num_steps}, squared distance {inertia:.4g}", refresh=False)
            bar.update(part - bar.n)

        return fit_units(
            inputs[0] if len(inputs) == 1 else inputs,
            arguments.out,
            model=arguments.model,
            layer=_layer(arguments),
            num_clusters=arguments.clusters,
            num_stages=arguments.residual,
            passes=arguments.passes,
            batch_frames=arguments.batch_frames,
            sample=arguments.sample,
            seed=arguments.seed,
            normalization=arguments.normalize,
            final_norm=arguments.final_norm,
            engine=arguments.engine,
            checkpoint=arguments.checkpoint,
            device=arguments.device,
            on_step=advance,
        )


def _import(arguments: argparse.Namespace) -> Units:
    """Read and write units of others."""
    from auricle.units.importing import import_units

    units = import_units(
        arguments.file,
        arguments.model,
        layer=_layer(arguments),
        key=arguments.key,
        final_norm=arguments.final_norm,
        normalization=arguments.normalize,
        checkpoint=arguments.checkpoint,
    )
    units.save(arguments.out)
    return units


def _layer(arguments: argparse.Namespace) -> int | str:
    layer = layer_argument(arguments.layer)
    assert layer is not None  # the option is required
    return layer


def info_lines(units: Units) -> list[str]:
    """Lines about units: each fact that is known, then distances over steps."""
    stages = f"{units.num_stages} stages of " if units.num_stages > 1 else ""
    facts: dict[str, Any] = {
        **units.facts(),
        "units": f"{stages}{units.num_clusters}, of {units.dim} features",
    }
    inertia: tuple[float, ...] = facts.pop("inertia")
    lines = [
        f"{name.replace('_', ' '):<18}{value}" for name, value in facts.items() if value is not None
    ]
    if inertia:
        last = len(inertia) - 1
        chosen = sorted({round(last * line / (MAX_LINES - 1)) for line in range(MAX_LINES)})
        lines.append("squared distance of frames to their centroids, mean of a step")
        lines += [f"  step {step + 1:<11}{inertia[step]:.6g}" for step in chosen]
    return lines
