"""docs/command-line.md is what the parsers say."""

from __future__ import annotations

import argparse
from pathlib import Path

import command_line
import pytest

from auricle.__main__ import COMMANDS


def test_the_page_is_current() -> None:
    assert command_line.PAGE.read_text() == command_line.page(), "run python tools/command_line.py"


def test_every_option_of_every_command_is_there() -> None:
    page = command_line.PAGE.read_text()
    for name, command in COMMANDS.items():
        parser = argparse.ArgumentParser(add_help=False)
        command.add_arguments(parser)
        section = page[page.index(f"\n## {name}\n") + 1 :].partition("\n## ")[0]
        for action in parser._actions:
            for option in action.option_strings:
                assert f"{option}" in section, f"{name} {option}"


def a_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="x")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--one", metavar="A")
    which.add_argument("--all", action="store_true", help="of a_b and [c], 100%% of `d_e`")
    parser.add_argument(
        "--kind", choices=("p", "q"), default="p", help="which (default: %(default)s)"
    )
    parser.add_argument("--out", required=True, help="where | how")
    parser.add_argument("place", nargs="*", metavar="PLACE")
    return parser


def test_usage_does_not_hang_on_the_version_of_python() -> None:
    usage = command_line.usage("x", a_parser())
    assert usage == "x [OPTIONS] (--one A | --all) --out OUT [PLACE ...]"


def test_rows_tell_values_defaults_and_groups() -> None:
    text = "\n".join(command_line._tables(a_parser()))
    assert "| `--kind {p,q}` | which (default: p) |" in text
    assert r"| `--out OUT` | where \| how (required) |" in text
    assert r"| `--all` | of a\_b and \[c\], 100% of `d_e` |" in text
    assert "One of `--one`, `--all`." in text
    assert "--help" not in text


def test_commands_of_a_command_follow_it() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(metavar="ACTION", required=True)
    commands.add_parser("go", help="go there").add_argument("--far", action="store_true")
    text = "\n".join(command_line._command("auricle x", parser, heading="###"))
    assert "auricle x ACTION ..." in text
    assert "### x go\n\nGo there.\n" in text
    assert "auricle x go [OPTIONS]" in text


def test_check_tells_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "command-line.md"
    page.write_text("old")
    monkeypatch.setattr(command_line, "PAGE", page)
    with pytest.raises(SystemExit, match="not current"):
        command_line.main(["--check"])
    assert page.read_text() == "old"
    command_line.main([])
    command_line.main(["--check"])
    assert page.read_text() == command_line.page()
