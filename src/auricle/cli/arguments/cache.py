"""Arguments of `auricle cache`."""

from __future__ import annotations

import argparse

SUMMARY = "show or empty the cache"
TEXT = """\
Show and remove downloaded weights, which are kept in AURICLE_CACHE or the user's cache folder.

path prints the folder, list all that is in it; a digest is listed where its original is gone.
remove asks nothing and prints what it freed:
  remove NAME         all of one model, and the digest that it was pinned to
  remove --all        all of all models
  --originals         only what was downloaded: conversions stay and load, and so do the digests
  --converted         only conversions: the next load converts again
"""
EXAMPLES = """\
examples:
  auricle cache path
  auricle cache list
  auricle cache remove tera
  auricle cache remove --originals
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.cache")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("path", help="print the folder", allow_abbrev=False)
    actions.add_parser("list", help="list what is in it", allow_abbrev=False)
    remove = actions.add_parser("remove", help="remove some or all of it", allow_abbrev=False)
    remove.add_argument("name", metavar="NAME", nargs="?", help="a model, or a URL")
    remove.add_argument("--all", action="store_true", help="all models")
    kind = remove.add_mutually_exclusive_group()
    kind.add_argument("--originals", action="store_true", help="only what was downloaded")
    kind.add_argument("--converted", action="store_true", help="only conversions")
