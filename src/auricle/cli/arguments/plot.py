"""Arguments of `auricle plot`."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.arguments.shared import LAYER_HELP, add_device, add_model, whole_number

SUMMARY = "draw one utterance"
TEXT = """\
Draw one utterance: waveform, log mel, representation and its self-similarity, on one time axis.

Needs matplotlib: pip install matplotlib.
"""
EXAMPLES = """\
example:
  auricle plot utterance.flac --model tera --layer -1 --out tera.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.plot")
    parser.add_argument("file", metavar="FILE", type=Path, help="audio file")
    add_model(parser)
    parser.add_argument(
        "--out", metavar="PICTURE", type=Path, required=True, help="file to write: .png, .pdf, .svg"
    )
    parser.add_argument(
        "--layer", metavar="LAYER", help=f"{LAYER_HELP} (default: the model's own choice)"
    )
    parser.add_argument(
        "--channel", metavar="K", type=whole_number, help="one channel (default: their mean)"
    )
    add_device(parser)
