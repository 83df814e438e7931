"""`auricle explore`: the local page that draws what encoders make of speech."""

from __future__ import annotations

import argparse
import threading
import webbrowser

from auricle.explore.page import serve


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until the user stops it.

    Raises:
        MissingExtraError: Gradio or matplotlib is not installed.
        OutputError: The port is not free.
    """
    with serve(arguments.port) as address:
        print(f"auricle explore: open {address} in a browser; Ctrl-C ends it", flush=True)
        if arguments.open:
            webbrowser.open(address)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
    return 0
