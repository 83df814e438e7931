"""Kaldi's data folders: wav.scp, and what may lie beside it."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from auricle.audio.recordings import AudioHeader
from auricle.errors import AudioError
from auricle.extraction.inputs.commands import REMEDY, Decoded, read_command
from auricle.extraction.inputs.records import Listing, Problem, Scope, unreadable
from auricle.extraction.inputs.rows import Manifest, Row, RowError, list_rows, number, positive

SCRIPT_NAME = "wav.scp"
CHANNELS = {"A": 0, "B": 1, "1": 0, "2": 1}
"""The sides of a call, as reco2file_and_channel names them."""

MAX_OVERSHOOT_SECONDS = 0.5
"""By how much a segment may reach past its recording and is cut there, as Kaldi's extract-segments
does by default."""

ARCHIVE_PLACE = re.compile(r".*:\d+(\[[\d:,]*\])?")


def list_kaldi(text: str, scope: Scope) -> Listing:
    """The utterances of a `wav.scp`, or of the folder that holds one.

    Beside a `wav.scp` these are read too: `segments` (its utterances then are the ones),
    `reco2file_and_channel`, and `utt2dur` for planning. The latter's channel is taken of files that
    have several; a recording of one channel is that one already. A segment ends with its recording
    where it reaches past it by less than half a second. Relative paths lie below the folder,
    absolute ones anywhere. Commands are never run: those that only decode a file
    (`flac -c -d -s a.flac |`) stand for that file (`read_command`), others are problems, and so
    are places in archives (`wav.ark:123`).

    Raises:
        AudioError: A file cannot be read.
    """
    path = os.path.abspath(text)  # noqa: PTH100 - a link keeps its place
    if Path(path).is_dir():
        path = os.path.join(path, SCRIPT_NAME)  # noqa: PTH118 - as above
    folder = Path(path).parent
    recordings = _recordings(path)
    rows: Iterator[Row | Problem] = iter(recordings.values())
    if Path(path).name == SCRIPT_NAME:
        sides = _read_sides(folder / "reco2file_and_channel")
        for name, row in recordings.items():
            if isinstance(row, Row) and name in sides:
                _add_side(row, sides[name])
        if (segments := folder / "segments").is_file():
            path = str(segments)
            rows = _segments(path, recordings)
        _set_lengths(folder / "utt2dur", recordings)
    manifest = Manifest(path=path, folder=str(folder), has_absolute_paths=True)
    return list_rows(rows, manifest, scope)


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    try:
        with Path(path).open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for line, text in enumerate(file, start=1):
                if text.strip():
                    yield line, text.strip()
    except OSError as error:
        raise unreadable(path, error) from error


def _recordings(path: str) -> dict[str, Row | Problem]:
    recordings: dict[str, Row | Problem] = {}
    for line, text in _lines(path):
        name, _, source = text.replace("\t", " ", 1).partition(" ")
        source = source.strip()
        if name in recordings:
            raise AudioError(
                f"{path}, line {line}: the id {name!r} stands there twice; give each recording "
                "an id of its own"
            )
        try:
            recordings[name] = _recording(line, name, source)
        except RowError as error:
            recordings[name] = Problem(
                kind="unreadable",
                manifest=path,
                line=line,
                id=name,
                source=source,
                reason=str(error),
            )
    return recordings


def _recording(line: int, name: str, source: str) -> Row:
    """The file that a wav.scp's text stands for.

    Raises:
        RowError: It stands for none.
    """
    if not source:
        raise RowError("there is no path after the id")
    if source.endswith("|"):
        return _decoded(line, name, source)
    if source.startswith("|"):
        raise RowError(f"got the command {source!r}; commands are never run: name a file")
    if source == "-":
        raise RowError("got '-', which stands for standard input: name a file")
    if ARCHIVE_PLACE.fullmatch(source):
        raise RowError(
            f"got {source!r}, a place in an archive: unpack it to files with Kaldi's wav-copy, "
            "and name those"
        )
    return Row(line=line, path=source, id=name)


def _decoded(line: int, name: str, source: str) -> Row:
    found = read_command(source)
    if isinstance(found, str):
        raise RowError(
            f"got the command {source!r}; commands are never run, and this one is not known to "
            f"only decode a file ({found}): {REMEDY}"
        )
    row = Row(line=line, path=found.path, id=name, channel=found.channel)
    if found.needs_header:
        row.complete = functools.partial(_check_change, source, found)
    return row


def _check_change(source: str, found: Decoded, header: AudioHeader | AudioError) -> None:
    """Refuse a command that would change its file; one that cannot be read fails as files do."""
    if isinstance(header, AudioHeader) and (change := found.change(header)):
        raise RowError(
            f"got the command {source!r}, which would change {change}; commands are never run: "
            f"{REMEDY}"
        )


def _add_side(row: Row, side: int) -> None:
    """Take one side of a call from a file that holds several channels.

    A command that gives one channel has chosen already.
    """
    if row.channel is not None:
        return
    check = row.complete

    def complete(header: AudioHeader | AudioError) -> None:
        if check is not None:
            check(header)
        is_single = isinstance(header, AudioHeader) and header.num_channels == 1
        row.channel = 0 if is_single else side

    row.channel, row.complete = side, complete


def _segments(path: str, recordings: dict[str, Row | Problem]) -> Iterator[Row | Problem]:
    for line, text in _lines(path):
        cells = text.split()
        try:
            yield _segment(line, cells, recordings)
        except RowError as error:
            yield Problem(
                kind="unreadable", manifest=path, line=line, id=cells[0], reason=str(error)
            )


def _segment(line: int, cells: list[str], recordings: dict[str, Row | Problem]) -> Row:
    if len(cells) not in (4, 5):
        raise RowError(f"got {len(cells)} words, expected: utterance recording start end [channel]")
    name, recording, first, last = cells[:4]
    found = recordings.get(recording)
    if found is None:
        raise RowError(f"there is no recording {recording!r} in {SCRIPT_NAME}")
    if isinstance(found, Problem):
        raise RowError(f"the recording {recording!r} cannot be used: {found.reason}")
    start = number(first, "the start") or 0.0
    end = None if _is_minus_one(last) else number(last, "the end")
    if end is not None and end <= start:
        raise RowError(f"the end, {end:g} s, is not after the start, {start:g} s")
    channel = found.channel
    if len(cells) == 5:
        if not (cells[4].isascii() and cells[4].isdecimal()):
            raise RowError(f"the channel is {cells[4]!r}, expected 0, 1, ...")
        channel = int(cells[4])
    row = Row(line=line, path=found.path, id=name, start=start, channel=channel)
    row.seconds = None if end is None else end - start
    row.complete = functools.partial(_complete_segment, row, found, has_channel=len(cells) == 5)
    return row


def _complete_segment(
    row: Row, recording: Row, header: AudioHeader | AudioError, *, has_channel: bool
) -> None:
    """Take over what the header tells of the recording, and end the segment where that ends."""
    if recording.complete is not None:
        recording.complete(header)
        if not has_channel:
            row.channel = recording.channel
    if isinstance(header, AudioError) or header.seconds is None or row.seconds is None:
        return
    start = row.start or 0.0
    overshoot = start + row.seconds - header.seconds
    if 0 < overshoot < min(row.seconds, MAX_OVERSHOOT_SECONDS):
        row.seconds = header.seconds - start


def _is_minus_one(text: str) -> bool:
    """Does a segment end there, which in Kaldi means with its recording?"""
    try:
        return float(text) == -1
    except ValueError:
        return False


def _read_sides(path: Path) -> dict[str, int]:
    """Channels, counted from 0, by recording; none where there is no such file."""
    sides: dict[str, int] = {}
    for line, text in _lines(str(path)) if path.is_file() else ():
        cells = text.split()
        if len(cells) != 3 or cells[2] not in CHANNELS:
            raise AudioError(
                f"{path}, line {line}: got {text[:200]!r}, expected: recording file A|B"
            )
        sides[cells[0]] = CHANNELS[cells[2]]
    return sides


def _set_lengths(path: Path, recordings: dict[str, Row | Problem]) -> None:
    if not path.is_file():
        return
    for line, text in _lines(str(path)):
        name, _, written = text.replace("\t", " ", 1).partition(" ")
        try:
            seconds = positive(written.strip(), "the duration")
        except RowError as error:
            raise AudioError(f"{path}, line {line}: {error}") from error
        row = recordings.get(name)
        if isinstance(row, Row):
            row.known_seconds = seconds
