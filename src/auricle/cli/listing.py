"""`auricle list`: print the families, or models of the catalogue as a table."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from auricle.catalogue.family import FAMILIES, find_family, is_family
from auricle.catalogue.record import Record
from auricle.catalogue.search import BASELINE, select
from auricle.errors import UnknownModelError

if TYPE_CHECKING:
    from auricle.catalogue.record import Record
    from auricle.hub.location import Availability

SUMMARY = "list the models"
TEXT = """\
List the families, one a line; or the models of a family, those that match a pattern, or all:
bundled ones first, then the others by family, in order of publication, baselines last.

Columns of models: publication date, name, paper (arXiv), input of the encoder, pretraining data,
and where the weights are: bundled (in an installed package), cached (on this machine), download, or
never published. Aliases, a licence that forbids commercial use, and notes follow each row.

Models of plug-ins are included; a broken plug-in is reported on standard error.
"""
EXAMPLES = """\
examples:
  auricle list
  auricle list hubert
  auricle list 'tera*'
  auricle list --all
  auricle list --family npc
  auricle list --offline
  auricle list --all --json
"""

WIDTH = 120
"""Most characters in a line of the table."""

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
FAMILY_HEADER = ("since", "family", "title", "models", "names")
NOTHING = "-"
MAX_DATA_WIDTH = 36
INDENT = " " * 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the filters and the choice of Markdown or JSON."""
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", help="a family, or matching names (* ? [])"
    )
    parser.add_argument("--all", action="store_true", help="all models, not the families")
    parser.add_argument(
        "--family",
        metavar="FAMILY",
        help=f"only one family: {', '.join(FAMILIES)}, or one that a plug-in adds",
    )
    parser.add_argument(
        "--offline", action="store_true", help="only what works on this machine without a network"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument(
        "--json", action="store_true", help="print an array of objects, one for each model, as JSON"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the selected models; problems of plug-ins are printed to standard error.

    Raises:
        UnknownModelError: There are none, or no such family.
        PlugInError: The family is from a plug-in that is broken.
    """
    from auricle.hub.location import availabilities

    pattern = arguments.pattern or "*"
    records, problems = select(pattern, family=arguments.family)
    if arguments.family is None and is_family(pattern.lower()):
        known = {record.name for record in records}
        members, _ = select(family=pattern.lower())
        records = [*records, *(record for record in members if record.name not in known)]
        records.sort(key=lambda record: (not record.released, record.released, record.name))
    if not arguments.markdown:
        records = by_family(records)
    for problem in problems:
        sys.stderr.write(f"auricle: warning: {' '.join(str(problem).split())}\n")
    filters = (arguments.pattern, arguments.family, arguments.offline)
    if not any((*filters, arguments.markdown, arguments.json, arguments.all)):
        for line in family_lines(records):
            print(line)
        return 0
    rows = [
        (record, state)
        for record, state in zip(records, availabilities(records), strict=True)
        if state.works_offline or not arguments.offline
    ]
    if not rows:
        family = f" in the family {arguments.family}" if arguments.family else ""
        offline = " and works offline" if arguments.offline else ""
        wider = f"*{pattern.strip('*')}*"
        hint = f", and {wider!r} matches a part of a name" if select(wider)[0] else ""
        raise UnknownModelError(
            f"no model name matches {pattern!r}{family}{offline}; `auricle list --all` shows all"
            f"{hint}"
        )
    if arguments.json:
        print(json.dumps([record_json(record, state) for record, state in rows], indent=2))
        return 0
    if arguments.markdown:
        for line in markdown_table([record for record, _ in rows]):
            print(line)
        return 0
    table = [HEADER, *(_cells(record, state) for record, state in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print(_line(HEADER, widths))
    for (record, _), cells in zip(rows, table[1:], strict=True):
        print(_line(cells, widths))
        for line in _notes(record):
            print(line)
    return 0


def record_json(record: Record, state: Availability) -> dict[str, Any]:
    """The facts of a model as values of JSON; None where something is not known."""
    from auricle.hub.location import known_num_bytes

    paper = record.paper
    return {
        "name": record.name,
        "aliases": [*record.aliases],
        "family": record.family,
        "title": record.title,
        "released": record.released or None,
        "paper": {"title": paper.title, "url": paper.url} if paper else None,
        "input": find_family(record.family).input,
        "training_data": record.training_data,
        "licence": record.licence,
        "is_non_commercial": record.is_non_commercial,
        "weights": state.value,
        "works_offline": state.works_offline,
        "num_bytes": known_num_bytes(record),
        "sha256": record.sha256,
        "urls": [*record.urls],
        "note": record.note or None,
    }


def family_lines(records: Sequence[Record]) -> list[str]:
    """Format a line for each family of records, and the commands that show more."""
    members: dict[str, list[Record]] = {}
    for record in records:
        members.setdefault(record.family, []).append(record)
    stems = sorted(members, key=lambda stem: stem == BASELINE)  # in order of publication
    table: list[tuple[str, ...]] = [FAMILY_HEADER]
    for stem in stems:
        family = find_family(stem)
        # Its data file begins with the models that are asked for most.
        place = {record.name: index for index, record in enumerate(family.records)}
        found = sorted(members[stem], key=lambda record: place.get(record.name, len(place)))
        shown = [record for record in found if record.urls] or found
        names = ", ".join(min(record.names, key=len) for record in shown)
        since = min(record.released[:4] for record in found) or NOTHING
        table.append((since, stem, family.title, str(len(found)), names))
    *widths, _ = (max(map(len, column)) for column in zip(*table, strict=True))
    room = WIDTH - sum(width + 2 for width in widths)  # and two blanks between columns
    table = [(*cells, textwrap.shorten(names, room, placeholder=" ...")) for *cells, names in table]
    widths.append(0)
    bundled = ", ".join(record.name for record in records if record.embedded)
    limited = ", ".join(record.name for record in records if record.is_non_commercial)
    ends = [f"bundled, small, no network needed: {bundled}"] if bundled else []
    ends += [f"not for commercial use: {limited}"] if limited else []
    return [
        *(_line(cells, widths) for cells in table),
        "",
        *(line for end in ends for line in textwrap.wrap(end, WIDTH, subsequent_indent="  ")),
        f"one family: `auricle list {stems[0]}`; all models: `auricle list --all`; one model: "
        "`auricle info NAME`",
    ]


def by_family(records: Sequence[Record]) -> list[Record]:
    """Sort records that are in order of publication: bundled first, then family by family."""
    first: dict[str, int] = {}
    for index, record in enumerate(records):
        first.setdefault(record.family, index)
    # Baselines, which need no weights, are listed last.
    return sorted(records, key=lambda record: -1 if record.embedded else first[record.family])


def markdown_table(records: Sequence[Record]) -> list[str]:
    """Format the lines of a wider table in Markdown, the same on every machine."""
    from auricle.hub.location import availabilities

    lines = [f"| {' | '.join(MARKDOWN_HEADER)} |", "|" + "---|" * len(MARKDOWN_HEADER)]
    states = availabilities(records, look_into_cache=False)
    for record, state in zip(records, states, strict=True):
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
            state.value,
            repository,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cells(record: Record, state: Availability) -> tuple[str, ...]:
    data = record.training_data or NOTHING
    return (
        record.released or NOTHING,
        record.name,
        record.paper.arxiv if record.paper else NOTHING,
        find_family(record.family).input,
        textwrap.shorten(data, MAX_DATA_WIDTH, placeholder="..."),
        state.value,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _notes(record: Record) -> list[str]:
    """Format a model's aliases and its note, indented below its row."""
    notes = [f"aliases: {', '.join(record.aliases)}"] if record.aliases else []
    if record.is_non_commercial:
        notes.append(f"not for commercial use: {record.licence}")
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
