"""Lhotse's manifests: cuts, recordings, and supervisions with their recordings beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from auricle.errors import AudioError
from auricle.extraction.inputs.commands import read_command
from auricle.extraction.inputs.records import Listing, Problem, Scope
from auricle.extraction.inputs.rows import Manifest, Row, RowError, list_rows, number, positive
from auricle.extraction.inputs.tables import json_objects
from auricle.optional import optional

CUT_TYPES = frozenset({"MonoCut", "MultiCut", "MixedCut", "PaddingCut", "Cut"})

ROUNDING_SECONDS = 1e-6
"""Lhotse rounds times to eight digits; a sample is longer than this at every rate."""

SAVE = "save the audio by CutSet.save_audios, and pass the cuts that it returns"


def list_cuts(text: str, scope: Scope) -> Listing:
    """The utterances of Lhotse's cuts, recordings or supervisions (`.jsonl` or `.jsonl.gz`).

    Lhotse reads them. A cut or supervision is one channel of a file or a part of it, with as many
    samples as Lhotse counts in it; of several channels, the scope's or, where they are all that
    the recording has, their mean. Mixtures, recordings that are changed on the way (speed, volume,
    rate) and audio that is no file are problems. Absolute paths may lie anywhere, relative ones
    below the manifest's folder. Supervisions name recordings, which are looked for in the manifest
    beside them that `lhotse prepare` writes.

    Raises:
        AudioError: The manifest cannot be read, or supervisions have no recordings beside them.
        MissingExtraError: Lhotse is not installed.
    """
    with optional("lhotse", f"{text}, a file of Lhotse cuts,"):
        import lhotse.cut
        import lhotse.serialization  # noqa: F401 - fails here, before anything is read
    path = os.path.abspath(text)  # noqa: PTH100 - a link keeps its place
    folder = os.path.dirname(path)  # noqa: PTH120 - a link keeps its place
    manifest = Manifest(path=path, folder=folder, has_absolute_paths=True)
    return list_rows(_Reader(path, scope).rows(), manifest, scope)


def is_lhotse(cells: dict[str, object]) -> bool:
    """Is the first object of a JSON file one of Lhotse's cuts, recordings or supervisions?"""
    return cells.get("type") in CUT_TYPES or _is_recording(cells) or _is_supervision(cells)


def _is_recording(cells: dict[str, object]) -> bool:
    return {"id", "sources", "sampling_rate"} <= cells.keys()


def _is_supervision(cells: dict[str, object]) -> bool:
    others = {"type", "sources", "audio_filepath", "path", "audio", "wav", "file"}
    return {"id", "recording_id", "start", "duration"} <= cells.keys() and not others & cells.keys()


class _Reader:
    """Reads the objects of one manifest."""

    def __init__(self, path: str, scope: Scope) -> None:
        self._path = path
        self._channel = scope.channel
        self._recordings: dict[str, Any] | None = None

    def rows(self) -> Iterator[Row | Problem]:
        for line, cells in json_objects(self._path):
            if isinstance(cells, Problem):
                yield cells
                continue
            name = str(cells.get("id", ""))
            try:
                yield self._row(line, cells)
            except RowError as error:
                yield Problem(
                    kind="unreadable", manifest=self._path, line=line, id=name, reason=str(error)
                )

    def _row(self, line: int, cells: dict[str, object]) -> Row:
        from lhotse import Recording, SupervisionSegment
        from lhotse.cut import MonoCut, MultiCut

        if not is_lhotse(cells):
            raise RowError(
                f"got an object of type {cells.get('type')!r}, expected a MonoCut, a MultiCut, a "
                "recording or a supervision"
            )
        if cells.get("type") in ("MixedCut", "PaddingCut"):
            raise RowError(f"got a {cells['type']}, expected a MonoCut, a part of one file: {SAVE}")
        item = _item(cells)
        if isinstance(item, Recording):
            return _part(line, item, item.id, 0.0, item.duration, self._row_channel(item, None))
        if isinstance(item, SupervisionSegment):
            recording = self._recording(item.recording_id)
        elif isinstance(item, MonoCut | MultiCut) and item.recording is not None:
            recording = item.recording
        else:
            raise RowError("the cut names no recording: there is no audio in it")
        channel = self._row_channel(recording, item.channel)
        return _part(line, recording, item.id, item.start, item.duration, channel)

    def _row_channel(self, recording: Any, wanted: Any) -> int | None:
        """The channel to read of a recording; None for the mean of all that it has."""
        has = list(recording.channel_ids)
        channels = has if wanted is None else [wanted] if isinstance(wanted, int) else list(wanted)
        if len(channels) == 1:
            return int(channels[0])
        if self._channel is not None and self._channel in channels:
            return self._channel
        if self._channel is None and set(channels) == set(has):
            return None
        raise RowError(
            f"it has the channels {channels} of {has}: choose one of them by --channel, or make "
            "a cut of each by CutSet.to_mono"
        )

    def _recording(self, name: str) -> Any:
        if self._recordings is None:
            self._recordings = _read_recordings(self._path)
        if name not in self._recordings:
            raise RowError(f"there is no recording {name!r} in the manifest beside it")
        return self._recordings[name]


def _item(cells: dict[str, object]) -> Any:
    from lhotse.serialization import deserialize_item

    try:
        return deserialize_item(cells)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise RowError(f"Lhotse cannot read it: {error!r}") from error


def _read_recordings(path: str) -> dict[str, Any]:
    """The recordings that a manifest of supervisions goes with, by id.

    Raises:
        AudioError: They do not lie beside it.
    """
    folder, file = os.path.split(path)
    own = file.partition(".json")[0]
    stem = own.replace("supervisions", "recordings")
    for name in (f"{stem}{suffix}" for suffix in (".jsonl.gz", ".jsonl", ".json.gz", ".json")):
        if name == file or not (beside := Path(folder, name)).is_file():
            continue
        found = (cells for _, cells in json_objects(str(beside)) if not isinstance(cells, Problem))
        items = [_item(cells) for cells in found if _is_recording(cells)]
        return {item.id: item for item in items}
    pair = f"{stem}.jsonl.gz"
    if stem == own:
        pair = f"x_recordings.jsonl.gz (as x_supervisions.jsonl.gz, and {file} has no such name)"
    raise AudioError(
        f"{path} holds Lhotse's supervisions, which name recordings and no audio; put "
        f"{pair} beside it, or pass cuts: lhotse cut simple -r RECORDINGS -s SUPERVISIONS "
        "CUTS, then lhotse cut trim-to-supervisions"
    )


def _part(
    line: int, recording: Any, name: str, start: float, duration: float, channel: int | None
) -> Row:
    """A part of a recording, from the sample and with the number of samples that Lhotse reads."""
    from lhotse.utils import compute_num_samples

    first = number(start, "the start") or 0.0
    length = positive(duration, "the duration") or 0.0
    path, index = _file(recording, channel)
    # Decoders differ in the length of MP3, so a cut of all of a file takes what there is.
    if first == 0 and abs(length - recording.duration) < ROUNDING_SECONDS:
        return Row(line=line, path=path, id=name, channel=index, known_seconds=length)
    rate = recording.sampling_rate
    return Row(
        line=line,
        path=path,
        id=name,
        start=compute_num_samples(first, rate) / rate,
        seconds=compute_num_samples(length, rate) / rate,
        channel=index,
    )


def _file(recording: Any, channel: int | None) -> tuple[str, int | None]:
    """The file that holds a channel of a recording, or all, and where the channel lies in it."""
    if recording.transforms:
        raise RowError(f"the recording is changed on the way (its `transforms`): {SAVE}")
    if channel is None:
        if len(recording.sources) != 1:
            raise RowError(f"the recording has {len(recording.sources)} files: {SAVE}")
        source = recording.sources[0]
    else:
        source = next((one for one in recording.sources if channel in one.channels), None)
        if source is None:
            raise RowError(f"no source of the recording {recording.id!r} has the channel {channel}")
    index = None if channel is None else list(source.channels).index(channel)
    if source.type == "command":
        found = read_command(str(source.source))
        if isinstance(found, str) or found.needs_header:
            reason = found if isinstance(found, str) else "it may change rate or channels"
            raise RowError(f"the audio comes from a command, which is never run; {reason}: {SAVE}")
        return found.path, index if found.channel is None else found.channel
    if source.type != "file":
        raise RowError(
            f"the audio comes from a source of type {source.type!r}, expected 'file': {SAVE}"
        )
    return str(source.source), index
