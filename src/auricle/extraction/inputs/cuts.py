"""Cuts as Lhotse writes them, one JSON object a line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from auricle.extraction.inputs.records import Listing, Problem, Scope
from auricle.extraction.inputs.rows import Manifest, Row, RowError, list_rows, number, positive
from auricle.extraction.inputs.tables import json_objects
from auricle.optional import optional

CUT_TYPES = frozenset({"MonoCut", "MultiCut", "MixedCut", "PaddingCut", "Cut"})

ROUNDING_SECONDS = 1e-6
"""Lhotse rounds times to eight digits; a sample is longer than this at every rate."""


def list_cuts(text: str, scope: Scope) -> Listing:
    """The utterances of Lhotse's cuts (`.jsonl` or `.jsonl.gz`), read by Lhotse.

    A cut is one channel of a file, or a stretch of it. Mixtures, cuts of several channels,
    recordings that are changed on the way (speed, volume, rate) and audio that is no file are
    problems. Absolute paths may lie anywhere, relative ones below the manifest's folder.

    Raises:
        AudioError: The manifest cannot be read.
        MissingExtraError: Lhotse is not installed.
    """
    with optional("lhotse", f"{text}, a file of Lhotse cuts,"):
        import lhotse.cut
        import lhotse.serialization  # noqa: F401 - fails here, before anything is read
    path = os.path.abspath(text)  # noqa: PTH100 - a link keeps its place
    folder = os.path.dirname(path)  # noqa: PTH120 - a link keeps its place
    manifest = Manifest(path=path, folder=folder, has_absolute_paths=True)
    return list_rows(_rows(path), manifest, scope)


def is_cut(cells: dict[str, object]) -> bool:
    """Is the first object of a JSON Lines file one of Lhotse's cuts?"""
    return cells.get("type") in CUT_TYPES


def _rows(path: str) -> Iterator[Row | Problem]:
    for line, cells in json_objects(path):
        if isinstance(cells, Problem):
            yield cells
            continue
        try:
            yield _row(line, cells)
        except RowError as error:
            name = str(cells.get("id", ""))
            yield Problem(kind="unreadable", manifest=path, line=line, id=name, reason=str(error))


def _row(line: int, cells: dict[str, object]) -> Row:
    with optional("lhotse", "a file of Lhotse cuts"):
        from lhotse.cut import MonoCut
        from lhotse.serialization import deserialize_item
    if not is_cut(cells):
        raise RowError(f"got an object of type {cells.get('type')!r}, expected a MonoCut")
    if cells["type"] not in ("MonoCut", "Cut"):
        raise RowError(
            f"got a {cells['type']}, expected a MonoCut, one channel of one file: save its audio "
            "by CutSet.save_audios, and pass the cuts that it returns"
        )
    try:
        cut = deserialize_item(cells)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise RowError(f"Lhotse cannot read the cut: {error!r}") from error
    if not isinstance(cut, MonoCut) or cut.recording is None:
        raise RowError("the cut names no recording: there is no audio in it")
    start = number(cut.start, "the start") or 0.0
    seconds = positive(cut.duration, "the duration") or 0.0
    # Decoders differ in the length of MP3, so a cut of all of a file takes what there is.
    is_whole = start == 0 and abs(seconds - cut.recording.duration) < ROUNDING_SECONDS
    return Row(
        line=line,
        path=_path(cut.recording, cut.channel),
        id=cut.id,
        start=None if is_whole else start,
        seconds=None if is_whole else seconds,
        channel=_index(cut.recording, cut.channel),
        known_seconds=seconds if is_whole else None,
    )


def _path(recording: Any, channel: int) -> str:
    if recording.transforms:
        raise RowError(
            "the recording is changed on the way (its `transforms`): save the audio by "
            "CutSet.save_audios, and pass the cuts that it returns"
        )
    source = _source(recording, channel)
    if source.type != "file":
        raise RowError(
            f"the audio comes from a source of type {source.type!r}, expected 'file': save it by "
            "CutSet.save_audios, and pass the cuts that it returns"
        )
    return str(source.source)


def _index(recording: Any, channel: int) -> int:
    """Where a recording's channel lies in the file that holds it."""
    return int(list(_source(recording, channel).channels).index(channel))


def _source(recording: Any, channel: int) -> Any:
    for source in recording.sources:
        if channel in source.channels:
            return source
    raise RowError(f"no source of the recording {recording.id!r} has the channel {channel!r}")
