"""Arguments that several commands take, and what turns their words into values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.hub.locations import is_location

DTYPES = ("float32", "float16", "bfloat16")
PRECISIONS = ("float32", "fp16", "bf16", "int8")
"""As `auricle.load` takes them."""

MODEL_HELP = (
    "a catalogue name (see `auricle list`), the path or URL of a checkpoint, or "
    "hf://owner/name[@revision][/file]"
)
LAYER_HELP = "index (negative counts from the end) or name; `auricle info` lists them"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which encoder, where a small one in the package is taken if none is named."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"{MODEL_HELP} (default: {DEFAULT_MODEL}, small and in the package; published models "
        "are better)",
    )
    add_weights(parser)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Where the weights of the model come from, if not from where its name says."""
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        type=path_or_url,
        help="weights for a named MODEL, from this file or URL",
    )
    parser.add_argument(
        "--config",
        metavar="PATH",
        type=path_or_url,
        help="configuration, a file or URL, of a checkpoint that keeps it in a file of its own "
        "(PASE), where that does not lie beside it",
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="download and convert again what is cached, also where the file has changed since",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where the encoder runs, and in which precision."""
    parser.add_argument(
        "--device", default="cpu", help="where the model runs, as torch says it (default: cpu)"
    )
    add_precision(parser)


def add_precision(parser: argparse.ArgumentParser) -> None:
    """How many bits the encoder computes with."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="bits that the model computes with: fewer are faster and change the numbers; int8 is "
        "for Transformers on the CPU (default: float32)",
    )


def words(text: str) -> list[str]:
    """Several words, with commas between them."""
    several = [word.strip() for word in text.split(",")]
    if not all(several) or len(set(several)) < len(several):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}")
    return several


def repeatable_words(text: str) -> list[str]:
    """Words with commas between them, which may be the same."""
    several = [word.strip() for word in text.split(",")]
    if not all(several):
        raise argparse.ArgumentTypeError(f"expected words with commas between them, got {text!r}")
    return several


def path_or_url(text: str) -> Path | str:
    """A URL as it is, anything else as a path."""
    return text if is_location(text) else Path(text)


def whole_number(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A moment: a finite number from 0."""
    return _number(text, at_least="0 or more", is_right=lambda number: number >= 0)


def positive_number(text: str) -> float:
    """A finite number above 0."""
    return _number(text, at_least="above 0", is_right=lambda number: number > 0)


def _number(text: str, *, at_least: str, is_right: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and is_right(number)):
        raise argparse.ArgumentTypeError(f"expected a number {at_least}, got {text!r}")
    return number
