"""Arguments of `auricle extract`."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.arguments.shared import (
    LAYER_HELP,
    add_device,
    add_model,
    positive_number,
    whole_number,
)

DEFAULT_BATCH_SECONDS = 120.0

SUMMARY = "write representations of files"
TEXT = """\
Write the representation of every audio file as one array file.

INPUT is an audio file, a folder (searched recursively for audio files), or a pattern in quotes
(* ? [] and ** across folders). Outputs keep the tree below an input folder or below the fixed
part of a pattern; a file given by itself goes to DIR/name.npy. Hidden files are left out of
folders. An output that is already there is overwritten, in one step: nobody sees half of it.

A file that cannot be encoded is reported on standard error and does not stop the others; the
exit status is 1 then.
"""
EXAMPLES = """\
examples:
  auricle extract speech.wav --out features
  auricle extract LibriSpeech/dev-clean --model tera --out features
  auricle extract corpus --model vq_wav2vec --codes --out codes
  auricle extract 'corpus/**/*.wav' --model tera --layer all --format safetensors --out layers
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.extract")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="file, folder or pattern")
    add_model(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write to, made if missing"
    )
    parser.add_argument(
        "--layer", metavar="LAYER", help=f"{LAYER_HELP}, or all (default: the model's own choice)"
    )
    parser.add_argument(
        "--codes",
        action="store_true",
        help="write discrete codes, int64 (frames, codebooks), of a model with a quantiser",
    )
    parser.add_argument(
        "--format",
        choices=("npy", "safetensors"),
        default="npy",
        help="npy: one float32 array (frames, dim), with --layer all (layers, frames, dim); "
        "safetensors: a tensor for each layer by its name, and metadata (default: npy)",
    )
    parser.add_argument(
        "--channel",
        metavar="K",
        type=whole_number,
        help="take one channel, counted from 0 (default: the mean of all channels)",
    )
    parser.add_argument(
        "--short",
        choices=("error", "pad"),
        default="error",
        help="a file shorter than the model's minimum fails, or is padded with zeros "
        "(default: error)",
    )
    parser.add_argument(
        "--batch-seconds",
        metavar="SECONDS",
        type=positive_number,
        default=DEFAULT_BATCH_SECONDS,
        help="audio that goes through the model at once, padding included; a longer file goes "
        f"alone (default: {DEFAULT_BATCH_SECONDS:g})",
    )
    add_device(parser)
