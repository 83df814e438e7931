"""Arguments of `auricle check`."""

from __future__ import annotations

import argparse

from auricle.cli.arguments.shared import MODEL_HELP, add_device, add_weights

SUMMARY = "check a model's weights"
TEXT = """\
Check that an encoder's weights are whole: run a second of bundled speech through every layer.

Reports for each layer its frames, its dim, statistics, dims that never change ("flat"), and how
far the batch moves it in standard deviations. The exit status is 1 where something is not sound:
NaN or infinity, weights of zeros, a layer that is constant, a batch that matters.
"""
EXAMPLES = """\
examples:
  auricle check tera
  auricle check path/to/states-1000000.ckpt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.check")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_weights(parser)
    add_device(parser)
