"""`auricle list`: the catalogue as a table."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence

from auricle.errors import UnknownModelError
from auricle.hub.catalogue import find, list_models
from auricle.hub.records import Record
from auricle.models.families import FAMILIES

WIDTH = 156
"""Columns of text that the table may take."""

HEADER = (
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
INDENT = " " * 11


def run(arguments: argparse.Namespace) -> int:
    """Print the models that the arguments ask for.

    Raises:
        UnknownModelError: There are none.
    """
    names = list_models(arguments.pattern, family=arguments.family)
    if not names:
        family = f" in the family {arguments.family}" if arguments.family else ""
        raise UnknownModelError(
            f"no model's name is like {arguments.pattern!r}{family}; `auricle list` shows all, "
            f"and '*{arguments.pattern.strip('*')}*' matches a part of a name"
        )
    records = [find(name) for name in names]
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
    """The lines of the same table in Markdown, names and aliases in one column."""
    lines = [f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    for record in records:
        published, title, _, arxiv, kind, data, weights, repository = _cells(record, shorten=False)
        names = ", ".join(f"`{name}`" for name in record.names if len(name) < MAX_DATA_WIDTH)
        paper = f"[{arxiv}]({record.paper.url})" if record.paper else NOTHING
        if repository != NOTHING:
            repository = f"[{repository}]({FAMILIES[record.family].repository})"
        cells = (published, title, names, paper, kind, data, weights, repository)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cells(record: Record, *, shorten: bool = True) -> tuple[str, ...]:
    family = FAMILIES[record.family]
    data = record.training_data or NOTHING
    if shorten:
        data = textwrap.shorten(data, MAX_DATA_WIDTH, placeholder="...")
    return (
        record.released or NOTHING,
        record.title,
        record.name,
        record.paper.arxiv if record.paper else NOTHING,
        family.input,
        data,
        _weights(record),
        (family.repository or NOTHING).removeprefix("https://github.com/"),
    )


def _weights(record: Record) -> str:
    if record.paper is None:
        return NOTHING
    return "embedded" if record.embedded else "yes" if record.urls else "no"


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
