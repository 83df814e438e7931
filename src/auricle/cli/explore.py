"""`auricle explore`: serve the local page that plots representations."""

from __future__ import annotations

import argparse
import threading

SUMMARY = "serve a local page that plots representations"
TEXT = """\
Serve a page on this machine alone (127.0.0.1): drop a file or record, pick encoders and layers, see
the pictures of auricle plot and auricle compare with a playhead, download picture and features.
Only weights are downloaded, if the user allows it.

Needs more packages: pip install '.[explore]'.
"""
EXAMPLES = """\
examples:
  auricle explore
  auricle explore --open
  auricle explore --port 8000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the port, and the choice to open a browser."""
    parser.add_argument(
        "--port",
        metavar="PORT",
        type=_port,
        help="port to listen on (default: the first free one from 7860)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until the user stops it.

    Raises:
        MissingExtraError: Gradio or matplotlib is not installed.
        OutputError: The port is not free.
    """
    import webbrowser

    from auricle.explore.page import serve

    with serve(arguments.port) as address:
        print(f"auricle explore: open {address} in a browser; Ctrl-C stops the server", flush=True)
        if arguments.open:
            webbrowser.open(address)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
    return 0


def _port(text: str) -> int:
    """Parse a port that a user may listen on."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")
    return int(text)
