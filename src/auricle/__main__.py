"""The `auricle` command: its parser, its exit statuses and its entry point."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Protocol

from auricle.errors import AuricleError

try:
    from auricle.cli import (
        extract,
        info,
        listing,
        pictures,
        probe,
        training,
        trials,
        weights,
    )
    from auricle.cli.options import Parser, PrintCompletion
except AuricleError as error:  # a data file of the library is damaged
    sys.exit(f"auricle: error: {error}")

SHELLS = ("bash", "zsh", "tcsh")

EXIT_FAILURE = 1
EXIT_USAGE = 2  # as argparse
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_TERMINATED = 143  # 128 + SIGTERM
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


class Command(Protocol):
    """A command: help texts, arguments and `run`.

    It is a module of `auricle.cli`, or a class of one that holds several.

    All of them are imported at every start: heavy imports belong inside `run`.
    """

    SUMMARY: str
    TEXT: str
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments to the command's parser."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do the work, and return the exit status."""


COMMANDS: dict[str, Command] = {
    "extract": extract,
    "list": listing,
    "info": info,
    "plot": pictures.Plot(),
    "compare": pictures.Compare(),
    "explore": pictures.Explore(),
    "check": trials.Check(),
    "convert": weights.Convert(),
    "export": weights.Export(),
    "verify": weights.Verify(),
    "cache": weights.Cache(),
    "pretrain": training.Pretrain(),
    "probe": probe,
    "units": training.FitUnits(),
    "demo": trials.Demo(),
}
"""The commands, in the order in which the help shows them."""


def build_parser(version: str) -> argparse.ArgumentParser:
    """Build the parser of all commands; parsed arguments hold the command's function as `run`."""
    parser = Parser(
        prog="auricle",
        description="One interface for self-supervised speech encoders.",
        epilog="`auricle COMMAND --help` shows a command's options and examples.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"auricle {version}")
    parser.add_argument(
        "--print-completion",
        choices=SHELLS,
        action=PrintCompletion,
        help="print the completion script of a shell (needs shtab)",
    )
    parser.set_defaults(run=lambda _: parser.exit(EXIT_USAGE, parser.format_help()))
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        of_command = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=command.TEXT,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        of_command.set_defaults(run=command.run)
        command.add_arguments(of_command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        argv: Arguments after the program's name; None for those of the process.

    Returns:
        0; 1 for an error that the library raises on purpose; 130 when interrupted; 141 when the
        reader of standard output closed it. Usage errors exit through argparse with 2.
    """
    version: str = import_module("auricle").__version__
    try:
        arguments = build_parser(version).parse_args(argv)
        status: int = arguments.run(arguments)
        # Flushed here, so that a closed pipe raises inside this function.
        sys.stdout.flush()
    except AuricleError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("auricle: interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except ImportError as error:
        # A package that is required, not optional, is missing or does not fit the others.
        return _fail(
            f"a package that auricle requires cannot be imported ({error}); `pip check` shows "
            "conflicts, and reinstalling auricle installs what is missing"
        )
    except OSError as error:
        # Errors of the standard streams, such as output to a full disk.
        _silence_stdout()
        return _fail(str(error))
    return status


def _fail(message: str) -> int:
    sys.stderr.write(f"auricle: error: {' '.join(message.split())}\n")
    return EXIT_FAILURE


def _silence_stdout() -> None:
    """Redirect standard output to the null device, so that the flush at exit does not fail."""
    with suppress(io.UnsupportedOperation):  # not a stream of the operating system
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def program() -> int:
    """Run as a program: log the library's warnings to standard error, exit in order on SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    logging.basicConfig(format="auricle: warning: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_unprinted)
    return main()


def _is_unprinted(record: logging.LogRecord) -> bool:
    """Return whether no logger below the root, such as Hugging Face's, has a handler for it."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        if any(not isinstance(one, logging.NullHandler) for one in logger.handlers):
            return False
        logger = logger.parent
    return True


if __name__ == "__main__":
    sys.exit(program())
