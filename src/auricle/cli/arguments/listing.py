"""Arguments of `auricle list`."""

from __future__ import annotations

import argparse

from auricle.catalogue.family import FAMILIES

SUMMARY = "list the models"
TEXT = """\
List the models of the catalogue in order of publication, baselines last.

Columns: publication date, name, paper (arXiv), input of the encoder, pretraining data, and where
the weights are: embedded (in an installed package), cached (on this machine), download, or never
published. Below a row stand the other names that the model goes by and what sets it apart.

Models that plug-ins add are among them; a plug-in that is broken is reported on standard error.
"""
EXAMPLES = """\
examples:
  auricle list
  auricle list 'tera*'
  auricle list --family npc
  auricle list --offline
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.listing")
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="only names like it (* ? [])"
    )
    parser.add_argument(
        "--family",
        metavar="FAMILY",
        help=f"only one family: {', '.join(FAMILIES)}, or one that a plug-in adds",
    )
    parser.add_argument(
        "--offline", action="store_true", help="only what works on this machine without a network"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
