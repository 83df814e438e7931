"""Arguments of `auricle export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.arguments.shared import MODEL_HELP, add_weights

SUMMARY = "write for another library"
TEXT = """\
Write an encoder as a folder that transformers loads to the same numbers.

For wav2vec 2.0, HuBERT, WavLM and data2vec audio. DIR, which must not be there yet or be empty,
receives config.json, preprocessor_config.json and model.safetensors, all at once.
"""
EXAMPLES = """\
examples:
  auricle export hubert --to transformers hubert-folder
  auricle export path/to/checkpoint_best.pt --to transformers my-wav2vec2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    # Weights are written as they were read into the machine's memory, in float32.
    parser.set_defaults(module="auricle.cli.export", device="cpu", precision="float32")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--to", choices=("transformers",), required=True, help="which library is to read it"
    )
    parser.add_argument("out", metavar="DIR", type=Path, help="folder to write")
    add_weights(parser)
