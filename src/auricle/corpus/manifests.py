"""Rows of manifests that name audio files, to utterances; fairseq's manifests, lists of paths."""

from __future__ import annotations

import dataclasses
import gzip
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from auricle.audio.files import read_header
from auricle.audio.recordings import AudioHeader
from auricle.corpus.utterance import (
    NO_LABELS,
    Listing,
    Problem,
    ProblemKind,
    Scope,
    Utterance,
    id_of_part,
    id_of_path,
    id_of_whole_path,
    id_reason,
    unreadable,
)
from auricle.errors import AudioError

STANDARD_INPUT = "-"
"""Name of an input that is a list of paths on standard input."""

NUM_THREADS = 16
"""Each waits for the file system, which on a network takes a millisecond a file."""

CHUNK = 2_000
"""Paths for a thread at a time, so that handing them over costs nothing."""

Verdict = tuple[ProblemKind, str]


class PathChecker:
    """Checks that files exist below a root, each path once, without opening a file.

    A path lies below its fence if it does so once all links and `..` are resolved.
    """

    def __init__(self) -> None:
        self._real_folders: dict[str, str] = {}
        self._verdicts: dict[tuple[str, str | None], Verdict | None] = {}

    def check(self, paths: Iterable[tuple[str, str | None]]) -> None:
        """Check (absolute path, fence) pairs in threads; a fence of None lets all paths pass."""
        todo = [pair for pair in dict.fromkeys(paths) if pair not in self._verdicts]
        chunks = [todo[i : i + CHUNK] for i in range(0, len(todo), CHUNK)]
        if len(chunks) < 2:
            for chunk in chunks:
                self._check_chunk(chunk)
            return
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            for _ in pool.map(self._check_chunk, chunks):
                pass

    def verdict(self, path: str, fence: str | None) -> Verdict | None:
        """Kind and reason of the fault of a path; None if it has none."""
        if (path, fence) not in self._verdicts:
            self._verdicts[path, fence] = self._look(path, fence)
        return self._verdicts[path, fence]

    def _check_chunk(self, pairs: list[tuple[str, str | None]]) -> None:
        for path, fence in pairs:
            self._verdicts[path, fence] = self._look(path, fence)

    def _look(self, path: str, fence: str | None) -> Verdict | None:
        try:
            path.encode()
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                real = os.path.realpath(path)
                status = Path(real).stat()
            else:
                folder, name = os.path.split(path)
                real = os.path.join(self._real_folder(folder), name)  # noqa: PTH118 - speed
        except UnicodeEncodeError:
            return "unreadable", f"the name {path!r} is not UTF-8: rename the file"
        except ValueError as error:  # a null character
            return "unreadable", f"{path!r} is no path: {error}"
        except OSError as error:
            return "missing", f"cannot find {path}: {error.strerror}"
        if fence is not None and not self._is_below(real, fence):
            return "escape", (
                f"{path} leads to {real}, outside of {fence}: copy it there, or name as root a "
                "folder that holds both"
            )
        if stat.S_ISDIR(status.st_mode):
            return "unreadable", f"{path} is a folder, expected a file"
        return None

    def _is_below(self, real: str, fence: str) -> bool:
        folder = self._real_folder(fence)
        return real.startswith(folder if folder.endswith(os.sep) else folder + os.sep)

    def _real_folder(self, folder: str) -> str:
        real = self._real_folders.get(folder)
        if real is None:
            real = self._real_folders[folder] = os.path.realpath(folder)
        return real


HEADER_THREADS = 16
"""Headers read at once: what takes long is waiting for a disk or a network."""

WHOLE_NUMBER = re.compile(r"[0-9]+(\.0*)?")


@dataclasses.dataclass(kw_only=True, slots=True)
class Row:
    """One row as it is written.

    Attributes:
        line: Its line, or row of a table, counted from 1.
        path: The audio file.
        id: "" to make one from the path.
        labels: `Utterance.labels`.
        start: Start of a part of the file, in seconds; None for the whole file.
        seconds: Length of the part; None for all up to the end.
        channel: Counted from 0; None where the row names none.
        known_seconds: How long the row says the whole file is.
        complete: Sets what only the file's header tells, such as the seconds of a time in samples;
            called with the header, or with what is wrong with it, and may raise `RowError`. None
            for most rows, whose files are not opened.
    """

    line: int
    path: str
    id: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=lambda: NO_LABELS)
    start: float | None = None
    seconds: float | None = None
    channel: int | None = None
    known_seconds: float | None = None
    complete: Callable[[AudioHeader | AudioError], None] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Manifest that rows are from.

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
    if scope.is_strict:
        checker.check(places)
    listing = Listing()
    folders = (manifest.folder,) if root is None else (manifest.folder, root)
    wanted = (
        place[0]
        for row, place in zip(_rows_of(taken), places, strict=True)
        if row.complete is not None
        and not (scope.is_strict and checker.verdict(*place) is not None)
    )
    headers = _headers(wanted)
    remaining = iter(places)
    for row in taken:
        if isinstance(row, Problem):
            listing.problems.append(row)
            continue
        source, fence = next(remaining)
        wrong: tuple[ProblemKind, str] | None = None
        if scope.is_strict:
            wrong = checker.verdict(source, fence)
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
        if wrong is None and scope.is_strict and (reason := id_reason(name)):
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
                labels=row.labels,
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


def open_text(path: str) -> TextIO:
    """A text file, unpacked where its name ends in .gz.

    Raises:
        OSError: It cannot be opened.
    """
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def numbered_lines(path: str) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    try:
        with Path(path).open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for line, text in enumerate(file, start=1):
                if text.strip():
                    yield line, text.strip()
    except OSError as error:
        raise unreadable(path, error) from error


def list_fairseq(text: str, scope: Scope) -> Listing:
    """The utterances of a TSV whose first line is a folder and whose others are `path<TAB>samples`.

    Paths are taken from that folder and may not leave it; a relative folder lies below the
    manifest's own. The counts are at the files' own rates, which only their headers tell, so
    no length is known from them.

    Raises:
        AudioError: The manifest cannot be read, or its first line is no folder.
    """
    path = os.path.abspath(text)  # noqa: PTH100 - a link keeps its place
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    folder = os.path.join(os.path.dirname(path), lines[0].rstrip("\r"))  # noqa: PTH118, PTH120 - keeps links
    if not lines[0].strip() or not Path(folder).is_dir():
        raise AudioError(
            f"the first line of {path} is {lines[0][:200]!r}, expected the folder that its paths "
            "are taken from; of a table, name the columns there"
        )
    manifest = Manifest(path=path, folder=os.path.normpath(folder), has_absolute_paths=False)
    return list_rows(_rows(lines[1:], path), manifest, scope)


def _rows(lines: list[str], manifest: str) -> Iterator[Row | Problem]:
    for number, written in enumerate(lines, start=2):
        line = written.rstrip("\r")
        if not line:
            continue
        name, _, count = line.partition("\t")
        if not name or not (count.isascii() and count.isdecimal()):
            yield Problem(
                manifest=manifest,
                line=number,
                reason=f"got {line[:200]!r}, expected a path, a tab and a count of samples",
            )
            continue
        yield Row(line=number, path=name)


def list_paths(text: str, scope: Scope) -> Listing:
    """The files of a list with a path a line, or of standard input (`-`).

    Relative paths lie below the list's folder, those of standard input below the current one;
    absolute ones anywhere. Empty lines are passed over.

    Raises:
        AudioError: The list cannot be read.
    """
    path = "standard input" if text == STANDARD_INPUT else os.path.abspath(text)  # noqa: PTH100 - a link keeps its place
    folder = os.getcwd() if text == STANDARD_INPUT else os.path.dirname(path)  # noqa: PTH109, PTH120 - texts
    lines = enumerate(sys.stdin, start=1) if text == STANDARD_INPUT else numbered_lines(path)
    rows = (Row(line=n, path=one.rstrip("\r\n")) for n, one in lines if one.strip())
    return list_rows(rows, Manifest(path=path, folder=folder, has_absolute_paths=True), scope)
