"""What the commands about downloaded weights take: convert, verify, cache."""

from __future__ import annotations

import argparse
from pathlib import Path

DTYPES = ("float32", "float16", "bfloat16")

CONVERT_TEXT = """\
Write a checkpoint as one .safetensors file of the library's own.

The file holds weights, configuration and origin (URL, sha256, licence where known), needs no
unpickling, and loads by being mapped into memory. CKPT is a file or folder, a URL, or a name of
the catalogue. An OUT that is there is overwritten in one step.
"""
CONVERT_EXAMPLES = """\
examples:
  auricle convert states-1000000.ckpt --out tera.safetensors
  auricle convert FE_e199.ckpt --model pase --config PASE+.cfg --out pase.safetensors
"""
VERIFY_TEXT = """\
Read what is cached, and the models in the package, and compare every digest.

Originals are compared with the catalogue and with the digest noted when they were downloaded,
conversions with the digest noted when they were written. The exit status is 1 where one has
changed, with the command that mends it below it, or where nothing is there of what was named.
"""
VERIFY_EXAMPLES = """\
examples:
  auricle verify
  auricle verify tera hubert
"""
CACHE_TEXT = """\
Show and remove downloaded weights, which are kept in AURICLE_CACHE or the user's cache folder.

path prints the folder, list all that is in it. remove asks nothing and prints what it freed:
  remove NAME         all of one model, and the digest that it was pinned to
  remove --all        all of all models
  --originals         only what was downloaded: conversions stay and load, and so do the digests
  --converted         only conversions: the next load converts again
"""
CACHE_EXAMPLES = """\
examples:
  auricle cache path
  auricle cache list
  auricle cache remove tera
  auricle cache remove --originals
"""


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Arguments of `auricle convert`."""
    parser.set_defaults(module="auricle.cli.convert")
    parser.add_argument("checkpoint", metavar="CKPT", help="file, folder, URL or catalogue name")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write"
    )
    parser.add_argument(
        "--model",
        metavar="FAMILY_OR_NAME",
        help="what it must be a checkpoint of (default: what its content tells)",
    )
    parser.add_argument(
        "--config",
        metavar="PATH",
        type=Path,
        help="its configuration where that is a file of its own (PASE) and not beside it",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="type of the weights (default: float32)"
    )


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Arguments of `auricle verify`."""
    parser.set_defaults(module="auricle.cli.verify")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="models or URLs (default: all there is)"
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Arguments of `auricle cache`."""
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
