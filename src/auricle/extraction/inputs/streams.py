"""Data sets too large to download or to list first: groups of rows, spooled as they come."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from auricle.audio.files import AUDIO_SUFFIXES
from auricle.errors import AudioError
from auricle.extraction.inputs.datasets import (
    audio_column,
    id_column,
    id_of_row,
    load_stream,
    parse_name,
)
from auricle.extraction.inputs.identifiers import id_reason
from auricle.extraction.inputs.records import Problem
from auricle.extraction.utterances import Utterance

GROUP_ROWS = 512
LOCAL_PROTOCOLS = ("file", "local")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamedGroup:
    """Rows of a streamed data set, their audio in files of a temporary folder.

    Attributes:
        number: Counted from 0: the group holds the rows from `number` times the group's size on.
        folder: Where the files are; `remove` deletes it.
        utterances: Whole files below `folder`.
        origins: "SPLIT:ROW" of each utterance.
        problems: Rows that hold no audio.
    """

    number: int
    folder: Path
    utterances: tuple[Utterance, ...]
    origins: tuple[str, ...]
    problems: tuple[Problem, ...]

    def remove(self) -> None:
        """Delete the group's files; to be called when they have been encoded."""
        shutil.rmtree(self.folder, ignore_errors=True)


def stream_groups(
    text: str,
    *,
    spool_folder: Path,
    group_rows: int = GROUP_ROWS,
    first_group: int = 0,
    channel: int | None = None,
) -> Iterator[StreamedGroup]:
    """Rows of one split of a data set, in its order, group by group; nothing is listed ahead.

    What resumes: a group holds the same rows in every run as long as the data set and
    `group_rows` stay the same, so a run that has finished n groups goes on with `first_group=n`.
    Rows before are skipped, which costs reading past them where their files cannot be jumped over.
    What does not: a group that was begun starts over; a data set that has been changed in
    between gives other rows, which only an id column shows; repeated ids are found by whoever keeps
    the ids, for here no more than one group is known.

    Args:
        text: `hf-dataset://NAME_OR_FOLDER[/CONFIG][@SPLIT]`; the split where there are several.
        spool_folder: Where each group gets a folder of its own. It is emptied when the group
            begins; the caller removes it by `StreamedGroup.remove`.
        group_rows: Rows in a group.
        first_group: The group to begin with.
        channel: Counted from 0; None for the mean of all.

    Raises:
        AudioError: The set cannot be opened, or no split is chosen of several.
        MissingExtraError: The datasets library is not installed.
    """
    name = parse_name(text)
    streams = load_stream(name.source)
    split = name.split or (next(iter(streams)) if len(streams) == 1 else "")
    if split not in streams:
        raise AudioError(f"choose a split of {name.source} by @SPLIT: {', '.join(streams)}")
    stream = streams[split]
    rows = iter(stream.skip(first_group * group_rows) if first_group else stream)
    for number in itertools.count(first_group):
        try:
            taken = list(itertools.islice(rows, group_rows))
        except (OSError, ValueError, RuntimeError) as error:
            raise AudioError(
                f"reading {name.source} failed in group {number} ({error!r}): once that is mended, "
                f"go on with first_group={number}"
            ) from error
        if not taken:
            return
        folder = spool_folder / f"{number:08d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        spool = _Spool(name.source, split, folder, stream.features, channel)
        yield spool.group(number, number * group_rows, taken)


class _Spool:
    """Writes the audio of rows to files of one folder."""

    def __init__(
        self,
        source: str,
        split: str,
        folder: Path,
        features: Mapping[str, Any] | None,
        channel: int | None,
    ) -> None:
        self._source = source
        self._split = split
        self._folder = folder
        self._features = features
        self._channel = channel

    def group(self, number: int, first_row: int, rows: list[dict[str, Any]]) -> StreamedGroup:
        features = self._features or _features_of(rows[0])
        column, ids = audio_column(features, self._source), id_column(features)
        utterances: list[Utterance] = []
        origins: list[str] = []
        problems: list[Problem] = []
        for row, cells in enumerate(rows, start=first_row):
            name = id_of_row(cells.get(ids) if ids else None, self._split, row)
            try:
                if reason := id_reason(name):
                    raise AudioError(reason)
                path = self._write(row - first_row, cells.get(column) or {})
            except (AudioError, OSError, ValueError) as error:
                problems.append(
                    Problem(
                        kind="unreadable",
                        manifest=f"{self._source} ({self._split})",
                        line=row + 1,
                        id=name,
                        source=self._source,
                        reason=str(error),
                    )
                )
                continue
            utterances.append(Utterance(id=name, source=path, channel=self._channel))
            origins.append(f"{self._split}:{row}")
        return StreamedGroup(
            number=number,
            folder=self._folder,
            utterances=tuple(utterances),
            origins=tuple(origins),
            problems=tuple(problems),
        )

    def _write(self, place: int, cell: Mapping[str, Any]) -> str:
        contents, path = cell.get("bytes"), cell.get("path") or ""
        if contents is None:
            contents = self._fetch(path)
        suffix = PurePosixPath(path).suffix.lower()
        target = self._folder / f"{place:06d}{suffix if suffix in AUDIO_SUFFIXES else '.audio'}"
        target.write_bytes(contents)
        return str(target)

    def _fetch(self, path: str) -> bytes:
        """A row's file, from where the data set says it lies."""
        import fsspec

        protocol = path.rpartition("::")[2].partition("://")
        if not protocol[1] or protocol[0] in LOCAL_PROTOCOLS:
            # A downloaded table must not choose among the files of this machine.
            raise AudioError(
                f"the row holds no audio but {path!r}, expected its bytes or a URL: list a data "
                "set of local files without streaming"
            )
        with fsspec.open(path, "rb") as file:
            contents: bytes = file.read()
        return contents


def _features_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row looks like, where the stream does not say: a value of bytes and path is audio."""
    return {name: dict.fromkeys(v) if isinstance(v, dict) else v for name, v in row.items()}
