"""Rows of a manifest that names files: from what is written to utterances."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable

from auricle.extraction.inputs.identifiers import (
    id_of_part,
    id_of_path,
    id_of_whole_path,
    id_reason,
)
from auricle.extraction.inputs.paths import PathChecker
from auricle.extraction.inputs.records import Listing, Problem, ProblemKind, Scope
from auricle.extraction.utterances import Utterance


@dataclasses.dataclass(kw_only=True, slots=True)
class Row:
    """One row as it is written.

    Attributes:
        line: Its line, or row of a table, counted from 1.
        path: The audio file.
        id: "" to make one from the path.
        start: Where the stretch begins, in seconds; None for the whole file.
        seconds: How long it is; None for all up to the end.
        channel: Counted from 0; None where the row names none.
        known_seconds: How long the row says the whole file is.
    """

    line: int
    path: str
    id: str = ""
    start: float | None = None
    seconds: float | None = None
    channel: int | None = None
    known_seconds: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Where rows come from.

    `folder` is what relative paths are taken from, `has_absolute_paths` tells whether the format
    by its nature names files anywhere.
    """

    path: str
    folder: str
    has_absolute_paths: bool


class RowError(ValueError):
    """A row that cannot be an utterance; the text is the reason."""


def list_rows(rows: Iterable[Row | Problem], manifest: Manifest, scope: Scope) -> Listing:
    """The utterances of a manifest's rows; each file is looked for, none is opened.

    A path may not leave the scope's root or, where there is none, the manifest's folder, unless it
    is absolute and the manifest's format has such paths.
    """
    root = None if scope.root is None else os.path.abspath(scope.root)  # noqa: PTH100 - keeps links
    taken = list(rows)
    checker = PathChecker()
    places: list[tuple[str, str | None]] = []
    for row in taken:
        if isinstance(row, Problem):
            continue
        is_free = manifest.has_absolute_paths and os.path.isabs(row.path)  # noqa: PTH117 - speed
        fence = root or (None if is_free else manifest.folder)
        places.append((os.path.join(manifest.folder, row.path), fence))  # noqa: PTH118 - speed
    checker.check(places)
    listing = Listing()
    folders = (manifest.folder,) if root is None else (manifest.folder, root)
    remaining = iter(places)
    for row in taken:
        if isinstance(row, Problem):
            listing.problems.append(row)
            continue
        source, fence = next(remaining)
        by_path = (
            id_of_whole_path(source, manifest.path)
            if scope.ids_by_path
            else id_of_path(source, folders)
        )
        name = row.id or _id_of(row, by_path)
        wrong: tuple[ProblemKind, str] | None = checker.verdict(source, fence)
        if wrong is None and (reason := id_reason(name)):
            wrong = ("unreadable", reason)
        if wrong is not None:
            listing.problems.append(
                Problem(
                    kind=wrong[0],
                    manifest=manifest.path,
                    line=row.line,
                    id=row.id,
                    source=source,
                    reason=wrong[1],
                )
            )
            continue
        listing.utterances.append(
            Utterance(
                id=name,
                source=source,
                start=row.start or 0.0,
                seconds=row.seconds,
                channel=scope.channel if row.channel is None else row.channel,
            )
        )
        if row.known_seconds is not None:
            listing.known_seconds[name] = row.known_seconds
    return listing


def _id_of(row: Row, name: str) -> str:
    if row.start is None:
        return name
    return id_of_part(name, row.start, None if row.seconds is None else row.start + row.seconds)


def number(value: object, what: str) -> float | None:
    """A cell as a number of seconds; None where it is empty.

    Raises:
        RowError: It is no finite number of at least 0.
    """
    if value is None or value == "":
        return None
    try:
        seconds = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        seconds = math.nan
    if isinstance(value, bool) or not math.isfinite(seconds) or seconds < 0:
        raise RowError(f"{what} is {value!r}, expected 0 or more seconds")
    return seconds


def positive(value: object, what: str) -> float | None:
    """A cell as a length in seconds; None where it is empty.

    Raises:
        RowError: It is no finite number above 0.
    """
    seconds = number(value, what)
    if seconds == 0:
        raise RowError(f"{what} is {value!r}, expected more than 0 seconds")
    return seconds


def channel_number(value: object) -> int | None:
    """A cell as a channel, counted from 0; None where it is empty.

    Raises:
        RowError: It is no whole number of at least 0.
    """
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():  # a column of integers with gaps
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RowError(f"the channel is {value!r}, expected 0, 1, ...")
    return value
