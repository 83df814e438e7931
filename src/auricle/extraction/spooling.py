"""Data sets too large to download or to list first: groups of rows, spooled as they come."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from queue import Queue
from typing import Any

from auricle.audio.inputs import audio_suffixes
from auricle.corpus.datasets import (
    SCHEME,
    audio_column,
    id_column,
    id_of_row,
    is_saved_dataset,
    load_stream,
    parse_name,
)
from auricle.corpus.utterance import Problem, Utterance, id_reason
from auricle.errors import AudioError, AuricleError, OutputError
from auricle.optional import missing_extra, missing_module, optional

GROUP_ROWS = 4096
GROUP_BYTES = 2 << 30
"""Audio of a group: two of them, one encoded and one on its way, lie on disk at once."""

LOCAL_PROTOCOLS = ("file", "local")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamedGroup:
    """Consecutive rows of a streamed data set, their audio in files of a temporary folder.

    Attributes:
        first_row: The first of its rows, counted from 0.
        end_row: The row after its last.
        folder: Where the files are; `remove` deletes it.
        utterances: Of container "stream", with the row as their member and spooled below `folder`.
        problems: Rows that hold no audio.
    """

    first_row: int
    end_row: int
    folder: Path
    utterances: tuple[Utterance, ...]
    problems: tuple[Problem, ...]

    def remove(self) -> None:
        """Delete the group's files; to be called when they have been encoded."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """One split of a data set, read row after row; `open_stream` makes it.

    Attributes:
        source: Absolute path of a folder or NAME of the hub, with /CONFIG after it if it has one.
        split: Name of the split.
        rows: The datasets library's own stream, audio not decoded.
    """

    source: str
    split: str
    rows: Any

    def groups(
        self,
        spool_folder: Path,
        *,
        first_row: int = 0,
        first_end_row: int | None = None,
        group_rows: int = GROUP_ROWS,
        group_bytes: int = GROUP_BYTES,
        channel: int | None = None,
    ) -> Iterator[StreamedGroup]:
        """Rows in their order, group by group; nothing is listed ahead.

        A row has the same number in every run as long as the data set stays the same; one that has
        been changed in between gives other rows, which only an id column shows. Rows before
        `first_row` are skipped, which costs reading past them where their files cannot be jumped
        over. Repeated ids are found by whoever keeps the ids, for here no more than one group is
        known.

        Args:
            spool_folder: Where each group gets a folder of its own.
            first_row: The row to begin with, counted from 0.
            first_end_row: The row that the first group ends before, whatever its size; None
                where it ends as all others do.
            group_rows: Rows at which a group ends.
            group_bytes: Bytes of audio at which it ends before.
            channel: Counted from 0; None for the mean of all.

        Raises:
            AudioError: The stream breaks off, or has no column of audio.
            MissingExtraError: The rows cannot be read without a package that is not installed.
            OutputError: `spool_folder` cannot be written.
        """
        rows = iter(self.rows.skip(first_row) if first_row else self.rows)
        while True:
            spool = _Spool(self, first_row, spool_folder / f"{first_row:09d}", channel)
            try:
                for cells in rows:
                    spool.add(cells)
                    is_full = spool.num_rows >= group_rows or spool.num_bytes >= group_bytes
                    if is_full if first_end_row is None else spool.end_row >= first_end_row:
                        break
            except AuricleError:
                raise
            except Exception as error:  # every kind of place has errors of its own
                if isinstance(error, ImportError) or missing_module(error) is not None:
                    raise missing_extra("datasets", f"the data set {self.source}", error) from error
                raise AudioError(
                    f"reading {self.source} broke off at row {spool.end_row} of {self.split} "
                    f"({error!r}); run the same command again to go on"
                ) from error
            if not spool.num_rows:
                return
            yield spool.group()
            first_row, first_end_row = spool.end_row, None


def open_stream(text: str) -> Stream:
    """Open one split of a data set to be read row after row, nothing of it downloaded ahead.

    Args:
        text: `hf-dataset://NAME_OR_FOLDER[/CONFIG][@SPLIT]`, the split where there are several; or
            a folder that `save_to_disk` wrote.

    Raises:
        AudioError: It is no data set, cannot be opened, or no split is chosen of several.
        MissingExtraError: The datasets library is not installed.
    """
    if not text.startswith(SCHEME) and not is_saved_dataset(text):
        raise AudioError(
            f"{text} is no data set of Hugging Face, and others are not streamed: expected "
            f"{SCHEME}NAME@SPLIT, or leave streaming out"
        )
    name = parse_name(text)
    streams = load_stream(name.source)
    split = name.split or (next(iter(streams)) if len(streams) == 1 else "")
    if split not in streams:
        raise AudioError(f"choose a split of {name.source} by @SPLIT: {', '.join(streams)}")
    return Stream(source=name.source, split=split, rows=streams[split])


class Ahead:
    """Groups, each fetched by a thread while the one before is encoded.

    A context manager: leaving it ends the thread, at the next row that comes.
    """

    def __init__(self, stream: Stream, spool_folder: Path, **options: Any) -> None:
        """The options are those of `Stream.groups`."""
        rows = _Stoppable(stream.rows)
        self._rows = rows
        self._groups = dataclasses.replace(stream, rows=rows).groups(spool_folder, **options)
        self._queue: Queue[StreamedGroup | BaseException | None] = Queue()
        self._wanted = threading.Semaphore()
        self._thread = threading.Thread(target=self._run, name="auricle-stream", daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.is_stopped = True
        self._wanted.release()
        self._thread.join()

    def __iter__(self) -> Iterator[StreamedGroup]:
        while (group := self._queue.get()) is not None:
            if isinstance(group, BaseException):
                raise group
            self._wanted.release()
            yield group

    def _run(self) -> None:
        try:
            self._wanted.acquire()
            for group in self._groups:
                self._queue.put(group)
                self._wanted.acquire()
            self._queue.put(None)
        except BaseException as error:  # raised again in the caller's thread
            self._queue.put(error)


class _Stoppable:
    """Rows until they are stopped."""

    def __init__(self, rows: Any) -> None:
        self.is_stopped = False
        self.features = rows.features
        self._rows = rows

    def skip(self, num_rows: int) -> Iterator[Any]:
        return self._until_stopped(self._rows.skip(num_rows))

    def __iter__(self) -> Iterator[Any]:
        return self._until_stopped(self._rows)

    def _until_stopped(self, rows: Any) -> Iterator[Any]:
        return itertools.takewhile(lambda _: not self.is_stopped, rows)


class _Spool:
    """Writes the audio of the rows of a group to files of one folder."""

    def __init__(self, stream: Stream, first_row: int, folder: Path, channel: int | None) -> None:
        self.num_rows = 0
        self.num_bytes = 0
        self._stream = stream
        self._first_row = first_row
        self._folder = folder
        self._channel = channel
        self._ids: str | None = None
        self._column = ""
        self._utterances: list[Utterance] = []
        self._problems: list[Problem] = []

    @property
    def end_row(self) -> int:
        """The row that comes next."""
        return self._first_row + self.num_rows

    def add(self, cells: Mapping[str, Any]) -> None:
        """Keep a row's audio, or what is wrong with it."""
        if not self.num_rows:
            self._begin(cells)
        source, split = self._stream.source, self._stream.split
        row = self.end_row
        name = id_of_row(cells.get(self._ids) if self._ids else None, split, row)
        try:
            if reason := id_reason(name):
                raise AudioError(reason)
            path = self._write(cells.get(self._column) or {})
        except (AudioError, OSError, ValueError) as error:
            problem = Problem(
                manifest=f"{source} ({split})",
                line=row + 1,
                id=name,
                source=source,
                reason=str(error),
            )
            self._problems.append(problem)
        else:
            utterance = Utterance(
                id=name,
                source=source,
                container="stream",
                member=f"{split}:{row}",
                channel=self._channel,
                spooled=path,
            )
            self._utterances.append(utterance)
        self.num_rows += 1

    def group(self) -> StreamedGroup:
        """The group of the rows that were added."""
        return StreamedGroup(
            first_row=self._first_row,
            end_row=self.end_row,
            folder=self._folder,
            utterances=tuple(self._utterances),
            problems=tuple(self._problems),
        )

    def _begin(self, cells: Mapping[str, Any]) -> None:
        features = self._stream.rows.features or _features_of(cells)
        self._ids = id_column(features)
        self._column = audio_column(features, self._stream.source)
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise _no_spool(self._folder, error) from error

    def _write(self, cell: Mapping[str, Any]) -> str:
        contents, path = cell.get("bytes"), cell.get("path") or ""
        if contents is None:
            contents = _fetch(path)
        suffix = PurePosixPath(path).suffix.lower()
        suffix = suffix if suffix in audio_suffixes() else ".audio"
        target = self._folder / f"{self.num_rows:06d}{suffix}"
        try:
            target.write_bytes(contents)
        except OSError as error:
            raise _no_spool(target, error) from error
        self.num_bytes += len(contents)
        return str(target)


def _no_spool(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}, where rows of a stream are kept until they are encoded: "
        f"{error.strerror}; let TMPDIR name a folder that has space left"
    )


def _fetch(path: str) -> bytes:
    """A row's file, from where the data set says it lies."""
    with optional("fsspec", path):
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
    """Infer the features of a stream from a row: a value of bytes and path is audio."""
    return {name: dict.fromkeys(v) if isinstance(v, dict) else v for name, v in row.items()}
