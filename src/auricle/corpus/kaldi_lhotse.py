"""Kaldi's data folders and Lhotse's manifests of cuts, recordings and supervisions."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from auricle.audio.recordings import AudioHeader
from auricle.corpus.manifests import (
    Manifest,
    Row,
    RowError,
    list_rows,
    number,
    numbered_lines,
    positive,
)
from auricle.corpus.tables import json_objects
from auricle.corpus.utterance import NO_LABELS, Listing, Problem, Scope, labels_of
from auricle.corpus.wav_scp import SCRIPT_NAME, read_command, read_wav_scp
from auricle.errors import AudioError
from auricle.optional import optional

CHANNELS = {"A": 0, "B": 1, "1": 0, "2": 1}
"""The sides of a call, as reco2file_and_channel names them."""

MAX_OVERSHOOT_SECONDS = 0.5
"""Overshoot up to which a segment that ends after its recording is cut there, as Kaldi's
extract-segments does by default."""

MINUS_ONE = re.compile(r"-1(\.0*)?")
"""The end of a segment that ends with its recording."""


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
    recordings = read_wav_scp(path)
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
        if scope.with_labels:
            rows = _with_labels(rows, folder)
    manifest = Manifest(path=path, folder=str(folder), has_absolute_paths=True)
    return list_rows(rows, manifest, scope)


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
    for line, text in numbered_lines(path):
        cells = text.split()
        try:
            yield _segment(line, cells, recordings)
        except RowError as error:
            yield Problem(manifest=path, line=line, id=cells[0], reason=str(error))


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
    end = None if MINUS_ONE.fullmatch(last) else number(last, "the end")
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
    """Complete the recording by its header, and end the segment where that ends."""
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


def _with_labels(rows: Iterable[Row | Problem], folder: Path) -> Iterator[Row | Problem]:
    """Rows with the speakers of `utt2spk` and the texts of `text`, where these files are."""
    texts: dict[str, dict[str, str]] = {}
    for label, file in (("speaker", folder / "utt2spk"), ("text", folder / "text")):
        for _, line in numbered_lines(str(file)) if file.is_file() else ():
            name, _, text = line.replace("\t", " ", 1).partition(" ")
            texts.setdefault(name, {})[label] = text.strip()
    for row in rows:
        if isinstance(row, Row):
            row.labels = texts.get(row.id, NO_LABELS)
        yield row


def _read_sides(path: Path) -> dict[str, int]:
    """Channels, counted from 0, by recording; none where there is no such file."""
    sides: dict[str, int] = {}
    for line, text in numbered_lines(str(path)) if path.is_file() else ():
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
    for line, text in numbered_lines(str(path)):
        name, _, written = text.replace("\t", " ", 1).partition(" ")
        try:
            seconds = positive(written.strip(), "the duration")
        except RowError as error:
            raise AudioError(f"{path}, line {line}: {error}") from error
        row = recordings.get(name)
        if isinstance(row, Row):
            row.known_seconds = seconds


CUT_TYPES = frozenset({"MonoCut", "MultiCut", "MixedCut", "PaddingCut", "HaloChunk"})

SUPERVISION_LABELS = ("text", "speaker", "gender", "language")

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
    """True for the object of one of Lhotse's cuts, recordings or supervisions."""
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
        self._with_labels = scope.with_labels
        self._recordings: dict[str, Any] | None = None

    def rows(self) -> Iterator[Row | Problem]:
        for line, cells in json_objects(self._path):
            if isinstance(cells, Problem):
                yield cells
                continue
            name = str(cells.get("id", ""))
            # First, for Lhotse takes out of the object what it reads.
            labels = _supervision_labels(cells) if self._with_labels else NO_LABELS
            try:
                row = self._row(line, cells)
                row.labels = labels
                yield row
            except RowError as error:
                yield Problem(manifest=self._path, line=line, id=name, reason=str(error))

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
            f"it has the channels {channels} of {has}: choose one of them by --channel (in Python "
            "channel=), or make a cut of each by CutSet.to_mono"
        )

    def _recording(self, name: str) -> Any:
        if self._recordings is None:
            self._recordings = _read_recordings(self._path)
        if name not in self._recordings:
            raise RowError(f"there is no recording {name!r} in the manifest beside it")
        return self._recordings[name]


def _supervision_labels(cells: dict[str, object]) -> Mapping[str, str]:
    """Labels of a supervision, or of the only one of a cut: speaker, text, language and others."""
    if not _is_supervision(cells):
        found = cells.get("supervisions")
        if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
            return NO_LABELS
        (cells,) = found
    custom = cells.get("custom")
    own = {name: value for name, value in cells.items() if name in SUPERVISION_LABELS}
    return labels_of({**(custom if isinstance(custom, dict) else {}), **own})


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
