"""Arguments of `auricle info`."""

from __future__ import annotations

import argparse

from auricle.cli.arguments.shared import MODEL_HELP, add_weights

SUMMARY = "show what a model is"
TEXT = """\
Show what a model is: publication, input, stride, layers, size, origin and licence.

A catalogue name works offline and downloads nothing. Where its weights are not on this machine
the architecture shown is that of the family's published sizes.
"""
EXAMPLES = """\
examples:
  auricle info tera
  auricle info path/to/states-1000000.ckpt
  auricle info hf://owner/name
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    # What is shown depends neither on a device nor on a precision.
    parser.set_defaults(module="auricle.cli.info", device="cpu", precision="float32")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_weights(parser)
