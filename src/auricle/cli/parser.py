"""The parser of the command line, from what each command says of itself."""

from __future__ import annotations

import argparse

from auricle.cli.arguments import (
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

COMMANDS = {
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
"""Modules of arguments, in the order in which the help shows the commands."""


def build_parser(version: str) -> argparse.ArgumentParser:
    """The parser of all commands; parsed arguments name the module that runs them in `module`."""
    parser = argparse.ArgumentParser(
        prog="auricle",
        description="One interface for every self-supervised speech encoder.",
        epilog="`auricle COMMAND --help` shows a command's options and examples.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"auricle {version}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(
                name,
                help=command.SUMMARY,
                description=command.TEXT,
                epilog=command.EXAMPLES,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
        )
    return parser
