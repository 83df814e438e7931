"""Options that several commands share: declarations, parsers of values, and their use."""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.errors import AuricleError, OutputError
from auricle.hub.location import is_location
from auricle.optional import optional

if TYPE_CHECKING:
    from auricle.models.base import Encoder
    from auricle.plotting.api import Speech

DTYPES = ("float32", "float16", "bfloat16")
PRECISIONS = ("float32", "fp16", "bf16", "int8")
"""As `auricle.load` takes them."""

MODEL_HELP = (
    "a catalogue name (see `auricle list`), the path or URL of a checkpoint, or "
    "hf://owner/name[@revision][/file]"
)
REFRESH_HELP = "ignore the cache: download and convert again, also if the file has changed since"
LAYER_HELP = "index (negative counts from the end) or name; `auricle info` lists them"


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the command, option or choice that was probably meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = [*(sys.argv[1:] if args is None else args)]
        return super().parse_known_args(args, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = [*(sys.argv[1:] if args is None else args)]
        found, others = self.parse_known_args(given, namespace)
        if others:
            parser = self._of(given)
            known = list(parser._option_string_actions)
            parser.error(f"unrecognized arguments: {' '.join(others)}{_option_hint(others, known)}")
        return found

    def error(self, message: str) -> NoReturn:
        """Print usage and a message, and exit with 2."""
        found = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        hint = _hint(found[1], re.findall(r"[\w.-]+", found[2])) if found else ""
        if message.startswith("the following arguments are required"):
            hint = _option_hint(self._given, list(self._option_string_actions))
        super().error(message + hint)

    def _of(self, given: Sequence[str]) -> argparse.ArgumentParser:
        """The parser of the innermost command that arguments name."""
        parser: argparse.ArgumentParser = self
        for word in given:
            for action in parser._actions:
                if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                    parser = action.choices[word]
                    break
        return parser


class PrintCompletion(argparse.Action):
    """Prints the completion script of a shell, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        """Print the script of the shell that the second value names.

        Raises:
            MissingExtraError: shtab is not installed.
        """
        with optional("shtab", "shell completion"):
            import shtab
        print(shtab.complete(parser, given[1]))
        parser.exit()


def _hint(word: str, known: Sequence[str]) -> str:
    """The advice to a mistyped word, if one of those known is close."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _option_hint(words: Sequence[str], known: Sequence[str]) -> str:
    """The advice to the first of the words that is a mistyped option."""
    names = [word.partition("=")[0] for word in words if word.startswith("--")]
    mistyped = [name for name in names if not any(one.startswith(name) for one in known)]
    return next(filter(None, (_hint(name, known) for name in mistyped)), "")


# Declaration


def add_model(parser: argparse.ArgumentParser, *, refresh_help: str = REFRESH_HELP) -> None:
    """Add --model, which defaults to a bundled toy model, and the options of its weights."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"{MODEL_HELP} (default: {DEFAULT_MODEL}, a bundled toy model)",
    )
    add_weights(parser, refresh_help=refresh_help)


def add_weights(parser: argparse.ArgumentParser, *, refresh_help: str = REFRESH_HELP) -> None:
    """Add the options of weights and configuration from another place than the catalogue's."""
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        type=path_or_url,
        help="weights for a named MODEL, from this file, folder or URL",
    )
    parser.add_argument(
        "--config",
        metavar="CONFIG",
        type=configuration,
        help="fields of the configuration to change (normalize=false, with commas between several, "
        "dots before those of parts); or the file or URL of the configuration of a checkpoint that "
        "has it in another folder (PASE), or that is tensors only",
    )
    parser.add_argument("--refresh", action="store_true", help=refresh_help)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the device and the precision of inference."""
    parser.add_argument(
        "--device",
        default="auto",
        help="torch device to run on (default: auto, a GPU if there is one, else the CPU)",
    )
    add_precision(parser)


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the precision of inference."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="precision of inference: lower is faster and changes the numbers; int8 is for "
        "Transformers on the CPU (default: float32)",
    )


def add_speech(parser: argparse.ArgumentParser) -> None:
    """Add the audio file to draw, the section and the labels to show, and the picture to write."""
    parser.add_argument("file", metavar="FILE", help="audio file, or another input of extract")
    parser.add_argument(
        "--utterance", metavar="ID", help="utterance to draw of an input of several"
    )
    parser.add_argument(
        "--out", metavar="PICTURE", type=Path, required=True, help="file to write: .png, .pdf, .svg"
    )
    parser.add_argument(
        "--labels",
        metavar="LABELS",
        type=Path,
        help="phone or word alignment to draw: tab-separated start, end (seconds) and label, a "
        ".ctm (rows of the name of FILE and of --channel), or a .TextGrid (phones before words)",
    )
    parser.add_argument(
        "--tier",
        metavar="NAME",
        help="labels to draw of several: a tier or a speaker of a .TextGrid, an utterance of a "
        ".ctm",
    )
    parser.add_argument(
        "--start", metavar="SECONDS", type=seconds, help="start of the section to show"
    )
    parser.add_argument("--end", metavar="SECONDS", type=seconds, help="end of the section to show")
    parser.add_argument(
        "--channel",
        metavar="K",
        type=whole_number,
        help="channel to use, counted from 0 (default: the mean of all channels)",
    )


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add labels of one's own and the folds that test them."""
    labels = parser.add_argument_group("your own labels")
    labels.add_argument("--labels", metavar="LABELS", help="table, folder, .ctm or text of Kaldi's")
    labels.add_argument(
        "--label-column", metavar="NAME", default="label", help="column of labels (default: label)"
    )
    labels.add_argument(
        "--regression",
        action="store_true",
        help="predict numbers by ridge regression (R2, MAE, correlations), not classes",
    )
    labels.add_argument("--tier", metavar="NAME", help="tier of the TextGrids")
    labels.add_argument(
        "--frame-shift",
        metavar="SECONDS",
        type=positive_number,
        default=0.01,
        help="from one frame of a text of Kaldi's to the next (default: 0.01)",
    )
    labels.add_argument(
        "--splits", metavar="TABLE", type=Path, help="table with the column split, or with groups"
    )
    labels.add_argument(
        "--group",
        metavar="COLUMN",
        help="keep all of one value, such as a speaker, on one side of each split (default: "
        "segments of a file together, other utterances each alone)",
    )
    labels.add_argument(
        "--folds", metavar="N", type=count, default=5, help="parts to test in turn (default: 5)"
    )
    labels.add_argument(
        "--seeds", metavar="N", type=count, default=3, help="draws of the folds (default: 3)"
    )


# Values: argparse calls these as `type=`, and prints what they raise as a usage error.


def words(text: str) -> list[str]:
    """Split distinct, comma-separated words."""
    several = [word.strip() for word in text.split(",")]
    if not all(several) or len(set(several)) < len(several):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}")
    return several


def repeatable_words(text: str) -> list[str]:
    """Split comma-separated words, which may repeat."""
    several = [word.strip() for word in text.split(",")]
    if not all(several):
        raise argparse.ArgumentTypeError(f"expected words with commas between them, got {text!r}")
    return several


def path_or_url(text: str) -> Path | str:
    """Return a URL unchanged, anything else as a path."""
    return text if is_location(text) else Path(text)


def configuration(text: str) -> Path | str | dict[str, Any]:
    """Parse FIELD=VALUE pairs, with commas between them, into nested mappings; else `path_or_url`.

    Values are JSON, or text where they are not.
    """
    if is_location(text) or "=" not in text or Path(text).exists():
        return path_or_url(text)
    options: dict[str, Any] = {}
    for pair in text.split(","):
        field, _, value = pair.partition("=")
        *parts, name = field.strip().split(".")
        section: Any = options
        for part in parts:
            section = section.setdefault(part, {}) if isinstance(section, dict) else None
        is_pair = value and name and all(parts)
        if not is_pair or not isinstance(section, dict) or name in section:
            raise argparse.ArgumentTypeError(
                f"expected a file, a URL, or FIELD=VALUE with commas between several, got {text!r}"
            )
        try:
            section[name] = json.loads(value)
        except ValueError:
            section[name] = value
    return options


def whole_number(text: str) -> int:
    """Parse an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Parse a time in seconds: a finite number of at least 0."""
    return _number(text, at_least="0 or more", is_right=lambda number: number >= 0)


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    return _number(text, at_least="above 0", is_right=lambda number: number > 0)


def _number(text: str, *, at_least: str, is_right: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and is_right(number)):
        raise argparse.ArgumentTypeError(f"expected a number {at_least}, got {text!r}")
    return number


def layer_argument(text: str | None) -> int | str | None:
    """Parse a layer as encoders take it: an index, a name, or None for the default layer."""
    if text is not None and text.removeprefix("-").isdecimal():
        return int(text)
    return text


# Use


def choose_model(arguments: argparse.Namespace) -> None:
    """Select the bundled default if no model is given, and report it on standard error.

    Raises:
        AuricleError: A checkpoint is given without the name of its model.
    """
    if arguments.model is not None:
        return
    if arguments.checkpoint is not None or arguments.config is not None:
        raise AuricleError(
            "--checkpoint and --config need --model NAME, the model that they belong to; a "
            "checkpoint in a format that identifies its model can be passed as --model PATH"
        )
    arguments.model = DEFAULT_MODEL
    print(
        f"auricle: using {DEFAULT_MODEL} (bundled toy model); choose with --model (`auricle list` "
        "shows published models)",
        file=sys.stderr,
    )


def load_encoder(arguments: argparse.Namespace) -> Encoder:
    """Load the encoder given by the options of model, weights and device.

    Raises:
        AuricleError: It cannot be loaded, or this machine has no such device.
    """
    from auricle.hub.load import load

    return load(
        arguments.model,
        checkpoint=arguments.checkpoint,
        config=arguments.config,
        device=arguments.device,
        precision=arguments.precision,
        refresh=arguments.refresh,
    )


def read_speech(arguments: argparse.Namespace) -> Speech:
    """Read the audio and the labels given by the options of `add_speech`.

    Raises:
        AuricleError: The file, the labels or the section is wrong.
    """
    from auricle.plotting.api import listen

    return listen(
        arguments.file,
        utterance=arguments.utterance,
        labels=arguments.labels or (),
        tier=arguments.tier,
        channel=arguments.channel,
        start=arguments.start,
        end=arguments.end,
    )


def check_folder(folder: Path) -> None:
    """Check, before any work, that `folder` can be written to; creates nothing.

    Raises:
        OutputError: It or a folder above it is a file, or may not be written to.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if _exists(path))
    if not existing.is_dir():
        raise OutputError(f"cannot write to {folder}: {existing} is a file; choose another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write to {folder}: no permission for {existing}; choose a folder that you may "
            "write to"
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise OutputError(
            f"cannot write to {path}: {error.strerror}; choose another folder"
        ) from error
