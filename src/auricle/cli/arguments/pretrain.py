"""Arguments of `auricle pretrain`."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.arguments.shared import count, whole_number

SUMMARY = "train an encoder"
TEXT = """\
Train an encoder from random weights by its family's own loss, as a recipe says.

RECIPE is a TOML file; docs/pretraining.md describes it, recipes/ holds some for every family.
DIR receives checkpoints, metrics.jsonl, TensorBoard events, a picture of the curves and, at the
end, NAME.safetensors, which every command takes as a model. Where DIR holds a checkpoint of the
same recipe and audio, training goes on from it. Ctrl-C or SIGTERM end it after a checkpoint.

Several GPUs or machines: torchrun --nproc_per_node N -m auricle pretrain ...

Needs more packages: pip install '.[train]'.
"""
EXAMPLES = """\
examples:
  auricle pretrain recipes/mini/apc.toml --data LibriSpeech/train-clean-100 --out runs/apc_mini
  auricle pretrain recipes/tera.toml --data manifest.tsv --split train --out runs/tera --workers 8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.pretrain")
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="TOML file")
    parser.add_argument(
        "--data",
        metavar="PATH",
        type=Path,
        nargs="+",
        required=True,
        help="folders, searched recursively for audio, and manifests (TSV with the columns path, "
        "samples and, if you like, split)",
    )
    parser.add_argument(
        "--split", metavar="SPLIT", help="rows of the manifests to train on, by their column split"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write to, made if missing"
    )
    parser.add_argument(
        "--steps", metavar="N", type=count, help="train so many steps instead of the recipe's"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number,
        default=1,
        help="processes that decode audio ahead of training (default: 1)",
    )
    parser.add_argument(
        "--cache-audio",
        action="store_true",
        help="decode all audio once and keep it in memory, 230 MB an hour",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to train; auto takes a GPU if there is one (default: auto)",
    )
