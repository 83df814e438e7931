"""Kaldi's data folders: wav.scp, and what may lie beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from auricle.errors import AudioError
from auricle.extraction.inputs.records import Listing, Problem, Scope, unreadable
from auricle.extraction.inputs.rows import Manifest, Row, RowError, list_rows, number, positive

SCRIPT_NAME = "wav.scp"
CHANNELS = {"A": 0, "B": 1, "1": 0, "2": 1}
"""The sides of a call, as reco2file_and_channel names them."""

ARCHIVE_PLACE = re.compile(r".*:\d+(\[[\d:,]*\])?")


def list_kaldi(text: str, scope: Scope) -> Listing:
    """The utterances of a `wav.scp`, or of the folder that holds one.

    Beside a `wav.scp` these are read too: `segments` (its utterances then are the ones),
    `reco2file_and_channel`, and `utt2dur` for planning. Relative paths lie below the folder,
    absolute ones anywhere. Commands (`sox ... |`) are never run, and places in archives
    (`wav.ark:123`) are not read: both are problems.

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
        if (segments := folder / "segments").is_file():
            path = str(segments)
            rows = _segments(path, recordings)
        _set_channels(folder / "reco2file_and_channel", recordings)
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
        if reason := _refusal(source):
            recordings[name] = Problem(
                kind="unreadable", manifest=path, line=line, id=name, source=source, reason=reason
            )
        else:
            recordings[name] = Row(line=line, path=source, id=name)
    return recordings


def _refusal(source: str) -> str | None:
    """Why a wav.scp's text is not the path of a file, None if it is."""
    if not source:
        return "there is no path after the id"
    if source.endswith("|") or source.startswith("|"):
        return f"got the command {source!r}; commands are never run: run it once, and name its file"
    if source == "-":
        return "got '-', which stands for standard input: name a file"
    if ARCHIVE_PLACE.fullmatch(source):
        return (
            f"got {source!r}, a place in an archive: unpack it to files with Kaldi's wav-copy, "
            "and name those"
        )
    return None


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
    seconds = None if end is None else end - start
    return Row(line=line, path=found.path, id=name, start=start, seconds=seconds, channel=channel)


def _is_minus_one(text: str) -> bool:
    """Does a segment end there, which in Kaldi means with its recording?"""
    try:
        return float(text) == -1
    except ValueError:
        return False


def _set_channels(path: Path, recordings: dict[str, Row | Problem]) -> None:
    if not path.is_file():
        return
    for line, text in _lines(str(path)):
        cells = text.split()
        if len(cells) != 3 or cells[2] not in CHANNELS:
            raise AudioError(
                f"{path}, line {line}: got {text[:200]!r}, expected: recording file A|B"
            )
        row = recordings.get(cells[0])
        if isinstance(row, Row):
            row.channel = CHANNELS[cells[2]]


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
