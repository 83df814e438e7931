"""Arguments of the commands that draw a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.arguments.shared import seconds, whole_number


def add_speech(parser: argparse.ArgumentParser) -> None:
    """What is drawn, and into which file."""
    parser.add_argument("file", metavar="FILE", type=Path, help="audio file")
    parser.add_argument(
        "--out", metavar="PICTURE", type=Path, required=True, help="file to write: .png, .pdf, .svg"
    )
    parser.add_argument(
        "--labels",
        metavar="LABELS",
        type=Path,
        help="phones or words to draw: lines of start, end (seconds) and label with tabs between "
        "them, a .ctm (the rows that go by the name of FILE and by --channel), or a .TextGrid "
        "(phones before words)",
    )
    parser.add_argument(
        "--tier",
        metavar="NAME",
        help="which labels to take of several: a tier or a speaker of a .TextGrid, an utterance "
        "of a .ctm",
    )
    parser.add_argument(
        "--start", metavar="SECONDS", type=seconds, help="show only what follows this moment"
    )
    parser.add_argument(
        "--end", metavar="SECONDS", type=seconds, help="show only what comes before this moment"
    )
    parser.add_argument(
        "--channel", metavar="K", type=whole_number, help="one channel (default: their mean)"
    )
