"""Arguments of `auricle plot`."""

from __future__ import annotations

import argparse

from auricle.cli.arguments.pictures import add_speech
from auricle.cli.arguments.shared import LAYER_HELP, add_device, add_model

SUMMARY = "draw one utterance"
TEXT = """\
Draw one utterance on one axis in seconds: waveform, log mel, labels where given, representation,
its principal components as colour, codes where the model has a quantiser, and self-similarity.

Needs matplotlib: pip install matplotlib.
"""
EXAMPLES = """\
examples:
  auricle plot speech.wav --model tera --layer -1 --out tera.png
  auricle plot speech.wav --labels phones.tsv --start 1.5 --end 3 --out part.pdf
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.plot")
    add_speech(parser)
    add_model(parser)
    parser.add_argument(
        "--layer", metavar="LAYER", help=f"{LAYER_HELP} (default: the model's own choice)"
    )
    add_device(parser)
