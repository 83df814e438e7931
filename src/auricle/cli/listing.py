"""`auricle list`: the catalogue as a table."""

from __future__ import annotations

import argparse
import itertools
import textwrap
from collections.abc import Sequence

from auricle.errors import UnknownModelError
from auricle.hub.catalogue import find, list_models
from auricle.hub.records import Record
from auricle.models.families import FAMILIES

WIDTH = 120
"""Columns of text that the table may take."""

HEADER = ("name", "model", "published", "paper", "input", "pretraining data", "weights")
NOTHING = "-"


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
    rows = [HEADER, *map(_cells, records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(_line(HEADER, widths))
    for family, group in itertools.groupby(records, key=lambda record: record.family):
        print(f"\n{FAMILIES[family].title}: {FAMILIES[family].loss}")
        for record in group:
            print(_line(_cells(record), widths))
            for line in _notes(record):
                print(line)
    return 0


def _cells(record: Record) -> tuple[str, ...]:
    family = FAMILIES[record.family]
    is_baseline = family.paper is None
    return (
        record.name,
        family.title,
        family.paper.date if family.paper else NOTHING,
        family.paper.arxiv if family.paper else NOTHING,
        family.input,
        record.training_data or NOTHING,
        NOTHING if is_baseline else "yes" if record.urls else "no",
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"  {'  '.join(padded)}".rstrip()


def _notes(record: Record) -> list[str]:
    """What sets a model apart in its family and its further names, indented below its row."""
    notes = [record.note] if record.note else []
    if record.aliases:
        notes.append(f"also called {', '.join(record.aliases)}")
    indent = " " * 6
    return textwrap.wrap(
        "; ".join(notes),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
