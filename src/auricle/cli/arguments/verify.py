"""Arguments of `auricle verify`."""

from __future__ import annotations

import argparse

SUMMARY = "check what is cached, or a store of representations"
TEXT = """\
Read what is cached, and the models in the package, and compare every digest.

Originals are compared with the catalogue and with the digest noted when they were downloaded,
conversions with the digest noted when they were written; of what is called unknown no digest was
ever noted. The exit status is 1 where one has changed, with the command that mends it below it, or
where nothing is there of a model that was named.

Of a folder that `auricle extract` wrote every file is read and compared with what was noted when it
was written; what mends a damaged one stands below it.
"""
EXAMPLES = """\
examples:
  auricle verify
  auricle verify tera hubert
  auricle verify features/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.verify")
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="models, URLs, or folders of representations (default: all models there are)",
    )
