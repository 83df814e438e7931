"""Rows of a manifest that names files: from what is written to utterances."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from auricle.audio.files import read_header
from auricle.audio.recordings import AudioHeader
from auricle.errors import AudioError
from auricle.extraction.inputs.columns import Column, Unit
from auricle.extraction.inputs.identifiers import (
    id_of_part,
    id_of_path,
    id_of_whole_path,
    id_reason,
)
from auricle.extraction.inputs.paths import PathChecker
from auricle.extraction.inputs.records import Listing, Problem, ProblemKind, Scope
from auricle.extraction.utterances import Utterance

HEADER_THREADS = 16
"""Headers read at once: what takes long is waiting for a disk or a network."""

ROUNDING_SECONDS = 0.02
"""By how much two times of one row may differ: lists round to hundredths."""


WHOLE_NUMBER = re.compile(r"[0-9]+(\.0*)?")


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
        complete: Sets what only the file's header tells, such as the seconds of a time in samples;
            called with the header, or with what is wrong with it, and may raise `RowError`. None
            for most rows, whose files are not opened.
    """

    line: int
    path: str
    id: str = ""
    start: float | None = None
    seconds: float | None = None
    channel: int | None = None
    known_seconds: float | None = None
    complete: Callable[[AudioHeader | AudioError], None] | None = None


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
    """The utterances of a manifest's rows; only files that a row has to know are opened.

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
    wanted = (
        place[0]
        for row, place in zip(_rows_of(taken), places, strict=True)
        if row.complete is not None and checker.verdict(*place) is None
    )
    headers = _headers(wanted)
    remaining = iter(places)
    for row in taken:
        if isinstance(row, Problem):
            listing.problems.append(row)
            continue
        source, fence = next(remaining)
        wrong: tuple[ProblemKind, str] | None = checker.verdict(source, fence)
        if wrong is None and row.complete is not None:
            try:
                row.complete(headers[source])
            except RowError as error:
                wrong = ("unreadable", str(error))
        by_path = (
            id_of_whole_path(source, manifest.path)
            if scope.ids_by_path
            else id_of_path(source, folders)
        )
        name = row.id or _id_of(row, by_path)
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


def _rows_of(taken: Iterable[Row | Problem]) -> Iterable[Row]:
    return (row for row in taken if isinstance(row, Row))


def _headers(sources: Iterable[str]) -> dict[str, AudioHeader | AudioError]:
    def read(source: str) -> AudioHeader | AudioError:
        try:
            return read_header(source)
        except AudioError as error:
            return error

    names = list(dict.fromkeys(sources))
    if not names:
        return {}
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        return dict(zip(names, pool.map(read, names), strict=True))


def _id_of(row: Row, name: str) -> str:
    if row.start is None:
        return name
    return id_of_part(name, row.start, None if row.seconds is None else row.start + row.seconds)


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A time of a row: the number as written, and the column that it stands in."""

    column: Column
    written: object
    value: float

    def seconds(self, header: AudioHeader | None) -> float:
        """The time in seconds; of one in samples the header must be given."""
        if self.column.unit == "seconds":
            return self.value * self.column.scale
        assert header is not None
        return self.value / header.sample_rate

    def __str__(self) -> str:
        return f"{self.column.name} {self.written}"


def read_claims(cells: Iterable[tuple[Column, object]], what: str) -> tuple[Claim, ...]:
    """The times that the columns of one meaning state, without empty cells.

    Raises:
        RowError: A value is no finite number of at least 0, or counts frames.
    """
    claims = []
    for column, written in cells:
        if (value := number(written, what, column.unit)) is None:
            continue
        if column.unit == "frames":
            raise RowError(
                f"{what} is {written!r} in the column {column.name!r}, whose frames may be of any "
                "length: give seconds, or samples in a column such as start_samples"
            )
        claims.append(Claim(column, written, value))
    return tuple(claims)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """What a row states of its times, column by column."""

    start: tuple[Claim, ...]
    end: tuple[Claim, ...]
    duration: tuple[Claim, ...]
    of_file: tuple[Claim, ...]

    @property
    def need_header(self) -> bool:
        """Whether the file's sample rate is needed: a part is counted in samples."""
        ends = (*self.start, *self.end)
        counted = (claim for claim in (*ends, *self.duration) if claim.column.unit != "seconds")
        return bool(ends) and next(counted, None) is not None

    def apply(self, row: Row, header: AudioHeader | None = None) -> None:
        """Set a row's start and length in seconds, or the known length of its file.

        Raises:
            RowError: Two columns disagree, the unit is not clear, or the end is not after the
                start.
        """
        times = self if header is None else self._with_units(header)
        start, end = _agreed(times.start, header), _agreed(times.end, header)
        if start is None and end is None:
            told = [c for c in (*times.of_file, *times.duration) if c.column.unit == "seconds"]
            if told and told[0].value <= 0:
                raise RowError(f"the duration is {told[0].written!r}, expected more than 0 seconds")
            row.known_seconds = told[0].seconds(None) if told else None
            return
        duration = _agreed(times.duration, header)
        if duration is not None and duration <= 0:
            raise RowError(f"the duration is {duration:g} s, expected more than 0 s")
        row.start = start or 0.0
        row.seconds = duration
        if end is None:
            return
        if end <= row.start:
            raise RowError(f"the end, {end:g} s, is not after the start, {row.start:g} s")
        row.seconds = end - row.start
        if duration is None or _is_close(duration, row.seconds):
            return
        if header is None or not _is_close(duration, header.seconds):
            raise RowError(
                f"the start, {row.start:g} s, the end, {end:g} s, and the duration, "
                f"{duration:g} s, disagree: correct them, or leave the end or the duration out"
            )

    def _with_units(self, header: AudioHeader) -> Times:
        """The same, with times that may be seconds or samples taken for what fits the file."""
        claims = (*self.start, *self.end)
        unclear = [claim for claim in claims if claim.column.unit == "seconds or samples"]
        if not unclear:
            return self
        longest = max(claim.value for claim in unclear)
        written = ", ".join(map(str, unclear))
        fits_seconds = header.seconds is None or longest <= header.seconds + ROUNDING_SECONDS
        is_whole = all(claim.value.is_integer() for claim in unclear)
        has_point = any("." in str(claim.written) for claim in unclear)
        if fits_seconds and is_whole and not has_point:
            raise RowError(
                f"{written} may count seconds or, as SpeechBrain does, samples: name the columns "
                "start_seconds and stop_seconds, or start_samples and stop_samples"
            )
        fits_samples = header.num_samples is None or longest <= header.num_samples
        if not fits_seconds and not (is_whole and fits_samples):
            raise RowError(
                f"{written} reach past the end of the file, of {header.seconds:g} s and "
                f"{header.num_samples} samples, in seconds and in samples: correct them"
            )
        unit: Unit = "seconds" if fits_seconds else "samples"

        def decided(claim: Claim) -> Claim:
            if claim.column.unit != "seconds or samples":
                return claim
            return dataclasses.replace(claim, column=Column(claim.column.name, unit))

        return dataclasses.replace(
            self, start=tuple(map(decided, self.start)), end=tuple(map(decided, self.end))
        )


def _agreed(claims: Sequence[Claim], header: AudioHeader | None) -> float | None:
    """The time that all of some columns state, from the one in samples where there is one."""
    if not claims:
        return None
    if len({claim.seconds(header) for claim in claims}) > 1:
        first = claims[0].seconds(header)
        if not all(_is_close(claim.seconds(header), first) for claim in claims):
            raise RowError(
                f"{' and '.join(map(str, claims))} claim the same time and disagree: leave all but "
                "one of these columns out"
            )
    exact = [claim for claim in claims if claim.column.unit == "samples"]
    return (exact or list(claims))[0].seconds(header)


def _is_close(one: float, other: float | None) -> bool:
    return other is not None and abs(one - other) <= ROUNDING_SECONDS


def number(value: object, what: str, unit: str = "seconds") -> float | None:
    """A cell as a number of seconds, or of another unit; None where it is empty.

    Raises:
        RowError: It is no finite number of at least 0.
    """
    if value is None or value == "":
        return None
    try:
        seconds = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        seconds = math.nan
    if isinstance(value, str) and "_" in value:  # which Python allows between digits
        seconds = math.nan
    if isinstance(value, bool) or not math.isfinite(seconds) or seconds < 0:
        raise RowError(f"{what} is {value!r}, expected 0 or more {unit}, such as 90 or 1.5")
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
    if isinstance(value, str) and WHOLE_NUMBER.fullmatch(value.strip()):
        value = int(float(value))
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RowError(f"the channel is {value!r}, expected 0, 1, ...")
    return value
