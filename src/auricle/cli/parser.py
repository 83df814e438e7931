"""The parser of the command line, assembled from the modules of the commands."""

from __future__ import annotations

import argparse
from typing import Protocol

from auricle.cli import (
    cache,
    check,
    compare,
    convert,
    demo,
    explore,
    export,
    extract,
    info,
    listing,
    plot,
    pretrain,
    probe,
    verify,
)


class Command(Protocol):
    """A module of the command line: help texts, arguments, and the work itself.

    The parser imports all of them at every start: heavy imports belong inside `run`.
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
    "plot": plot,
    "compare": compare,
    "explore": explore,
    "check": check,
    "convert": convert,
    "export": export,
    "verify": verify,
    "cache": cache,
    "pretrain": pretrain,
    "probe": probe,
    "demo": demo,
}
"""Modules of the commands, in the order in which the help shows them."""


def build_parser(version: str) -> argparse.ArgumentParser:
    """Build the parser of all commands; parsed arguments hold the command's function as `run`."""
    parser = argparse.ArgumentParser(
        prog="auricle",
        description="One interface for every self-supervised speech encoder.",
        epilog="`auricle COMMAND --help` shows a command's options and examples.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"auricle {version}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
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
