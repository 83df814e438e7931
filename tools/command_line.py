"""Write docs/command-line.md from the parsers of the commands.

`python tools/command_line.py` writes the page; with `--check` it writes nothing and exits with 1
where the page is not what would be written.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from auricle.__main__ import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "command-line.md"

HEAD = """\
# Command line

Arguments of every command; `auricle COMMAND --help` prints the same, `auricle --version` the
version. Guides: [extraction](extraction.md), [pictures](pictures.md), [weights](weights.md),
[pretraining](pretraining.md), [probing](probing.md).

The exit status is 0 on success, 1 for an error of the library, 2 for invalid arguments, 130 after
Ctrl-C (0 for `explore`), 143 after SIGTERM and 141 if the reader of the output closed it. Errors
are printed to standard error.

`list`, `info` and `extract` print JSON on standard output with `--json`, for other programs.
`auricle --print-completion bash` (or `zsh`, `tcsh`) prints a script that completes commands,
options and their choices, for `~/.local/share/bash-completion/completions/auricle`; it needs
`pip install '.[completion]'` in the clone.
"""
NO_VALUE = ""
MARKDOWN_MARKS = re.compile(r"([\\*_<>\[\]|])")
CODE = re.compile(r"(`[^`]+`)")


def page() -> str:
    """The whole page."""
    parser = build_parser("")
    commands = subcommands(parser)
    parts = [HEAD, *_overview(parser)]
    for name, command in commands.items():
        parts.append(f"## {name}\n")
        parts.extend(_command(f"auricle {name}", command, heading="###"))
    return "\n".join(parts).rstrip("\n") + "\n"


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's commands, by name; none where it has none."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _overview(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield "| command | what it does |\n|---|---|"
    for name, summary in _summaries(parser).items():
        yield f"| [`auricle {name}`](#{name}) | {prose(summary)} |"
    yield ""


def _summaries(parser: argparse.ArgumentParser) -> dict[str, str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {choice.dest: choice.help or "" for choice in action._choices_actions}
    return {}


def _command(call: str, parser: argparse.ArgumentParser, *, heading: str) -> Iterator[str]:
    """Usage, description and arguments of a command, then of its subcommands."""
    yield f"```text\n{usage(call, parser)}\n```\n"
    yield from _description(parser.description or "")
    yield from _tables(parser)
    if parser.epilog:
        yield f"Examples:\n\n```text\n{_examples(parser.epilog)}\n```\n"
    summaries = _summaries(parser)
    for name, command in subcommands(parser).items():
        yield f"{heading} {call.removeprefix('auricle ')} {name}\n"
        summary = prose(summaries[name])
        yield f"{summary[:1].upper()}{summary[1:]}.\n"
        yield from _command(f"{call} {name}", command, heading=f"{heading}#")


def usage(call: str, parser: argparse.ArgumentParser) -> str:
    """Usage of a command in a line; argparse's own text differs between versions of Python."""
    words = [call]
    exclusive = {
        id(action): group
        for group in parser._mutually_exclusive_groups
        if group.required
        for action in group._group_actions
    }
    listed = set()
    has_more = False
    for action in _options(parser):
        group = exclusive.get(id(action))
        if group is not None:
            if id(group) not in listed:
                listed.add(id(group))
                words.append(f"({' | '.join(map(_call, group._group_actions))})")
        elif action.required:
            words.append(_call(action))
        else:
            has_more = True
    if has_more:
        words.insert(1, "[OPTIONS]")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words += [str(action.metavar), "..."]
        elif not action.option_strings:
            words.append(_place(action))
    return " ".join(words)


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The options but `--help`, which every command has."""
    return [
        action
        for action in parser._actions
        if action.option_strings and not isinstance(action, argparse._HelpAction)
    ]


def _place(action: argparse.Action) -> str:
    name = _value(action)
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}.get(
        str(action.nargs), name
    )


def _call(action: argparse.Action) -> str:
    return f"{action.option_strings[0]} {_value(action)}".strip()


def _value(action: argparse.Action) -> str:
    """Placeholder of the value in a call; empty for a switch."""
    if action.nargs == 0:
        return NO_VALUE
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper() if action.option_strings else action.dest


def _tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Arguments and options, a row each; groups of which one may be given, after them."""
    rows = [
        (f"`{_cell(_place(action))}`", action)
        for action in parser._actions
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
    ]
    for action in _options(parser):
        names = ", ".join(action.option_strings)
        rows.append((f"`{_cell(f'{names} {_value(action)}'.strip())}`", action))
    if not rows:
        return
    yield "| argument | what |\n|---|---|"
    for shown, action in rows:
        required = " (required)" if action.option_strings and action.required else ""
        yield f"| {shown} | {prose(_help(action))}{required} |"
    yield ""
    for group in parser._mutually_exclusive_groups:
        names = ", ".join(f"`{action.option_strings[0]}`" for action in group._group_actions)
        yield f"{'One' if group.required else 'At most one'} of {names}.\n"


def _help(action: argparse.Action) -> str:
    """Help of an option, with the values that argparse substitutes."""
    text = action.help or ""
    return " ".join(text.split()) % {**vars(action), "prog": "auricle"} if "%" in text else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _description(text: str) -> Iterator[str]:
    """Paragraphs as prose; those with lines that are set in, as they are."""
    for paragraph in filter(None, text.strip("\n").split("\n\n")):
        if any(line.startswith(" ") for line in paragraph.splitlines()):
            yield f"```text\n{paragraph}\n```\n"
        else:
            yield f"{prose(paragraph)}\n"


def prose(text: str) -> str:
    """Plain text as Markdown: what would be a mark is escaped, code in backticks stays."""
    parts = CODE.split(text)
    return "".join(
        part if CODE.fullmatch(part) else MARKDOWN_MARKS.sub(r"\\\1", part) for part in parts
    )


def _examples(epilog: str) -> str:
    """The commands of an epilog, without its own heading."""
    lines = [line.strip() for line in epilog.strip("\n").splitlines()]
    return "\n".join(line for line in lines if not re.fullmatch(r"examples?:", line))


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if not current")
    arguments = parser.parse_args(argv)
    if not arguments.check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit("docs/command-line.md is not current; run python tools/command_line.py")


if __name__ == "__main__":
    main()
