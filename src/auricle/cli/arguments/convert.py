"""Arguments of `auricle convert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.arguments.shared import DTYPES, path_or_url

SUMMARY = "write as one own file"
TEXT = """\
Write a checkpoint as one .safetensors file of the library's own.

The file holds weights, configuration and origin (URL, sha256, licence where known), needs no
unpickling, and loads by being mapped into memory. CKPT is a file or folder, a URL, or a name of
the catalogue. An OUT that is there is overwritten in one step.
"""
EXAMPLES = """\
examples:
  auricle convert states-1000000.ckpt --out tera.safetensors
  auricle convert FE_e199.ckpt --model pase --config PASE+.cfg --out pase.safetensors
  auricle convert tensors.safetensors --model hubert --config options.json --out hubert.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.convert")
    parser.add_argument("checkpoint", metavar="CKPT", help="file, folder, URL or catalogue name")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write"
    )
    parser.add_argument(
        "--model",
        "--family",
        metavar="FAMILY_OR_NAME",
        help="what it must be a checkpoint of (default: what its content tells)",
    )
    parser.add_argument(
        "--config",
        metavar="PATH",
        type=path_or_url,
        help="its configuration where that is a file of its own (PASE) and not beside it, or "
        "where it holds bare tensors",
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="download again what is cached, also where the file has changed since",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="type of the weights (default: float32)"
    )
