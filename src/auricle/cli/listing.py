"""`auricle list`: the catalogue as a table."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence

from auricle.catalogue.family import find_family
from auricle.catalogue.record import Record
from auricle.catalogue.search import select
from auricle.errors import UnknownModelError
from auricle.hub.availability import availability

WIDTH = 120
"""Columns of text that the table may take."""

HEADER = ("published", "name", "paper", "input", "pretraining data", "weights")
MARKDOWN_HEADER = (
    "published",
    "model",
    "name",
    "paper",
    "input",
    "pretraining data",
    "weights",
    "repository",
)
NOTHING = "-"
MAX_DATA_WIDTH = 36
INDENT = " " * 12


def run(arguments: argparse.Namespace) -> int:
    """Print the models that the arguments ask for; what is wrong with plug-ins goes to stderr.

    Raises:
        UnknownModelError: There are none, or no such family.
        PlugInError: The family is from a plug-in that is broken.
    """
    records, problems = select(arguments.pattern, family=arguments.family)
    for problem in problems:
        sys.stderr.write(f"auricle: warning: {' '.join(str(problem).split())}\n")
    if arguments.offline:
        records = [record for record in records if availability(record).works_offline]
    if not records:
        family = f" in the family {arguments.family}" if arguments.family else ""
        offline = " and works offline" if arguments.offline else ""
        wider = f"*{arguments.pattern.strip('*')}*"
        hint = f", and {wider!r} matches a part of a name" if select(wider)[0] else ""
        raise UnknownModelError(
            f"no model's name is like {arguments.pattern!r}{family}{offline}; `auricle list` shows "
            f"all{hint}"
        )
    if arguments.markdown:
        for line in markdown_table(records):
            print(line)
        return 0
    rows = [HEADER, *map(_cells, records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(_line(HEADER, widths))
    for record, row in zip(records, rows[1:], strict=True):
        print(_line(row, widths))
        for line in _notes(record):
            print(line)
    return 0


def markdown_table(records: Sequence[Record]) -> list[str]:
    """The lines of a wider table in Markdown, the same on every machine."""
    lines = [f"| {' | '.join(MARKDOWN_HEADER)} |", "|" + "---|" * len(MARKDOWN_HEADER)]
    for record in records:
        family = find_family(record.family)
        repository = NOTHING
        if family.repository is not None:
            short = family.repository.removeprefix("https://github.com/")
            repository = f"[{short}]({family.repository})"
        cells = (
            record.released or NOTHING,
            record.title,
            ", ".join(f"`{name}`" for name in record.names if len(name) < MAX_DATA_WIDTH),
            f"[{record.paper.arxiv}]({record.paper.url})" if record.paper else NOTHING,
            family.input,
            record.training_data or NOTHING,
            availability(record, look_into_cache=False).value,
            repository,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cells(record: Record) -> tuple[str, ...]:
    data = record.training_data or NOTHING
    return (
        record.released or NOTHING,
        record.name,
        record.paper.arxiv if record.paper else NOTHING,
        find_family(record.family).input,
        textwrap.shorten(data, MAX_DATA_WIDTH, placeholder="..."),
        availability(record).value,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _notes(record: Record) -> list[str]:
    """What sets a model apart in its family and its further names, indented below its row."""
    notes = [f"also called {', '.join(record.aliases)}"] if record.aliases else []
    if record.note:
        notes.append(record.note)
    return textwrap.wrap(
        "; ".join(notes),
        WIDTH,
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
