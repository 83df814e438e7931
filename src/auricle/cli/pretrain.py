"""`auricle pretrain`: train an encoder on audio by a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.options import check_folder, count, whole_number

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

SIGNAL_STATUS = 128
"""Offset that shells add to the number of the signal that ended a command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the recipe, the audio and the folder to write to."""
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="TOML file")
    parser.add_argument(
        "--data",
        metavar="PATH",
        nargs="+",
        required=True,
        help="folders, searched recursively for audio, manifests (such as TSV with the columns "
        "path, samples and, if you like, split), archives and data sets: every input of extract",
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


def run(arguments: argparse.Namespace) -> int:
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
            f"stopped after step {outcome.step} of {recipe.identity.steps}; run the same command "
            "to resume"
        )
    lines = read_metrics(arguments.out) if outcome.is_main else []
    if lines:
        first, last = (
            f"{line['loss']:.4f} (up to step {line['step']})" for line in (lines[0], lines[-1])
        )
        losses = f"loss from {first} to {last}" if len(lines) > 1 else f"loss {first}"
        print(f"{losses}; curves: {arguments.out / CURVES_FILE}")
    return 0 if outcome.result is not None else SIGNAL_STATUS + outcome.stopped_by
