"""Arguments of `auricle demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "try it on bundled speech"
TEXT = """\
Extract representations from the speech that comes with auricle and draw them; needs no network.
"""
EXAMPLES = """\
example:
  auricle demo --out demo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.demo")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("demo"),
        help="folder for arrays and picture (default: demo)",
    )
