"""Arguments of `auricle explore`."""

from __future__ import annotations

import argparse

SUMMARY = "open a page that draws what encoders make of speech"
TEXT = """\
Serve a page on this machine alone (127.0.0.1): drop a file or record, pick encoders and layers, see
the pictures of auricle plot and auricle compare with a play head, download picture and features.
Nothing is fetched from elsewhere but weights that a visitor allows to be downloaded.

Needs Gradio and matplotlib: pip install '.[explore]'.
"""
EXAMPLES = """\
examples:
  auricle explore
  auricle explore --open
  auricle explore --port 8000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.explore")
    parser.add_argument(
        "--port", metavar="PORT", type=_port, help="to listen on (default: a free one from 7860)"
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")


def _port(text: str) -> int:
    """A port that a user may listen on."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")
    return int(text)
