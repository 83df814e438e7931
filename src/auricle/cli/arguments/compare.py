"""Arguments of `auricle compare`."""

from __future__ import annotations

import argparse

from auricle.cli.arguments.pictures import add_speech
from auricle.cli.arguments.shared import LAYER_HELP, MODEL_HELP, add_device, repeatable_words

SUMMARY = "draw one utterance through several models"
TEXT = """\
Draw one utterance as several models represent it, on one axis in seconds, and below it how alike
all their layers are (linear CKA, 1 where one is a rotation and a scaling of the other).

Needs matplotlib: pip install matplotlib.
"""
EXAMPLES = """\
examples:
  auricle compare speech.wav --models tera_mini,wav2vec2_mini,fbank --out compared.png
  auricle compare speech.wav --models wav2vec2,hubert --layers 6,9 --out compared.pdf
  auricle compare speech.wav --models tera_mini --layers all --out layers.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.compare")
    add_speech(parser)
    parser.add_argument(
        "--models",
        metavar="MODEL,...",
        type=repeatable_words,
        required=True,
        help=f"each {MODEL_HELP}; one may come twice, with another layer",
    )
    parser.add_argument(
        "--layers",
        metavar="LAYER,...",
        type=repeatable_words,
        help=f"which to draw, one for each model in order or one for all: {LAYER_HELP}; or all "
        "(default: each model's own choice); where the first is negative, --layers=-1,-2",
    )
    add_device(parser)
