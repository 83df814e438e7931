"""Streams into a store: group after group of rows is fetched, planned, encoded and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import msgspec

from auricle.corpus.utterance import Utterance
from auricle.errors import OutputError, StoreError
from auricle.extraction.plan import PlannedShard, Timed
from auricle.extraction.run import Run, Summary
from auricle.extraction.spooling import GROUP_ROWS, Ahead, Stream, StreamedGroup
from auricle.store.folder import Folder
from auricle.store.index import read_part
from auricle.store.layout import STREAMS


def extract_streams(
    run: Run,
    streams: Sequence[Stream],
    *,
    channel: int | None = None,
    group_rows: int = GROUP_ROWS,
) -> Summary:
    """Encode what a store does not hold of streams yet, and close it.

    Every group of rows gets a plan of its own. A run that was killed goes on with the group that it
    was at; a stream that has grown costs the rows that are new. Rows that failed are not tried
    again, for their group is done.

    Args:
        run: A run into the store, on this machine.
        streams: Streams that the store is to hold.
        channel: Counted from 0; None for the mean of all.
        group_rows: Rows of a group.

    Raises:
        AudioError: A stream breaks off; what has been encoded stays.
        ExtractionError: An utterance gave nothing, and the run stops at the first.
        OutputError: The store or the temporary folder cannot be written.
    """
    with _spool_folder(run.folder) as spool:
        kept = _KeptIds(run.folder)
        for _, rows in run.kept_parts():
            kept.update(rows["id"].to_pylist(), rows["source"].to_pylist())
        num_before = len(kept.origins)
        positions = StreamPositions(run.folder)
        pending = run.pending()
        run.progress.start(None, None)
        for stream in streams:
            own = [shard for shard in pending if _is_of(shard, stream)]
            position = positions.find(stream.source, stream.split)
            begun = [shard for shard in own if _rows_of(shard) <= _rows_begun(position)]
            one = _Streaming(stream, run, kept, positions, spool, channel)
            one.repair([shard for shard in own if shard not in begun])
            one.go_on(begun, group_rows)
        run.failures.write()
        return run.close(num_before=num_before)


class _KeptIds:
    """Ids that the store holds, and where the audio of each came from."""

    def __init__(self, folder: Folder) -> None:
        self.origins: dict[str, str] = {}
        self._folder = folder

    def update(self, ids: Sequence[str], origins: Sequence[str]) -> None:
        self.origins.update(zip(ids, origins, strict=True))

    def add(self, shards: Sequence[PlannedShard]) -> None:
        """Add the ids of shards that have just been written."""
        for shard in shards:
            rows = read_part(self._folder, shard.key).rows
            self.update(rows["id"].to_pylist(), rows["source"].to_pylist())


@dataclasses.dataclass(frozen=True)
class _Streaming:
    """One stream on its way into a store."""

    stream: Stream
    run: Run
    kept: _KeptIds
    positions: StreamPositions
    spool: Path
    channel: int | None

    def repair(self, shards: Sequence[PlannedShard]) -> None:
        """Encode shards of finished groups again, whose files have been cut or removed since."""
        for _, found in groupby(shards, lambda shard: shard.key.generation):
            of_group = list(found)
            rows = set[int]().union(*map(_rows_of, of_group))
            groups = self.stream.groups(
                self.spool,
                first_row=min(rows),
                first_end_row=max(rows) + 1,
                channel=self.channel,
            )
            group = next(groups, None)
            self._encode(_with_audio(of_group, group))
            if group is not None:
                group.remove()

    def go_on(self, begun: Sequence[PlannedShard], group_rows: int) -> None:
        """Encode the rows that are not done.

        Args:
            begun: Shards of the group at which a run was killed.
            group_rows: Rows of a group.
        """
        position = self.positions.find(self.stream.source, self.stream.split)
        is_begun = position.end_row > position.num_rows
        with Ahead(
            self.stream,
            self.spool,
            first_row=position.num_rows,
            first_end_row=position.end_row if is_begun else None,
            group_rows=group_rows,
            channel=self.channel,
        ) as groups:
            for group in groups:
                self._encode_group(group, begun)
                group.remove()
                begun = ()
        self._encode(_with_audio(begun, None))

    def _encode_group(self, group: StreamedGroup, begun: Sequence[PlannedShard]) -> None:
        self._note(group.first_row, group.end_row)
        failures = self.run.failures
        for problem in group.problems:
            failures.add_problem(problem)
        waiting = [timed.utterance for shard in begun for timed in shard.utterances]
        failures.forget(utterance.id for utterance in waiting)
        added = self.run.add(self._new(group, waiting))
        self._encode([*_with_audio(begun, group), *added])
        failures.write()
        self._note(group.end_row, group.end_row)

    def _note(self, num_rows: int, end_row: int) -> None:
        source, split = self.stream.source, self.stream.split
        self.positions.note(
            StreamPosition(source=source, split=split, num_rows=num_rows, end_row=end_row)
        )

    def _new(self, group: StreamedGroup, waiting: Sequence[Utterance]) -> Iterator[Utterance]:
        """Utterances that no plan holds yet; one whose id another one has, has failed."""
        known = {utterance.id: utterance.origin for utterance in waiting}
        for utterance in group.utterances:
            other = known.get(utterance.id) or self.kept.origins.get(utterance.id)
            if other is None:
                known[utterance.id] = utterance.origin
                self.run.failures.forget([utterance.id])
                yield utterance
            elif other != utterance.origin:
                reason = f"the id comes twice, {other} has it too; this row is left out"
                self.run.failures.add(utterance, reason)

    def _encode(self, shards: Sequence[PlannedShard]) -> None:
        if shards:
            self.run.encode(shards)
            self.kept.add(shards)


def _is_of(shard: PlannedShard, stream: Stream) -> bool:
    first = next(shard.utterances).utterance
    split = first.member.rpartition(":")[0]
    return shard.is_streamed and (first.source, split) == (stream.source, stream.split)


def _rows_of(shard: PlannedShard) -> set[int]:
    return {int(timed.utterance.member.rpartition(":")[2]) for timed in shard.utterances}


def _rows_begun(position: StreamPosition) -> set[int]:
    return set(range(position.num_rows, position.end_row))


def _with_audio(shards: Sequence[PlannedShard], group: StreamedGroup | None) -> list[PlannedShard]:
    """Shards as planned, with where the audio lies now that its rows have come again."""
    utterances = group.utterances if group is not None else ()
    come = {(utterance.id, utterance.member): utterance.spooled for utterance in utterances}

    def found(timed: Timed) -> Timed:
        utterance = timed.utterance
        spooled = come.get((utterance.id, utterance.member), "")
        return dataclasses.replace(timed, utterance=dataclasses.replace(utterance, spooled=spooled))

    return [
        dataclasses.replace(
            shard, batches=tuple(tuple(map(found, batch)) for batch in shard.batches)
        )
        for shard in shards
    ]


@contextmanager
def _spool_folder(folder: Folder) -> Iterator[Path]:
    """A temporary folder outside of the store, the same in every run, so that the next one clears
    what a killed one has left.

    Raises:
        OutputError: It cannot be made.
    """
    digest = hashlib.sha256(folder.location.encode("utf-8", "surrogateescape")).hexdigest()
    path = Path(tempfile.gettempdir(), f"auricle-stream-{digest[:16]}")
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise OutputError(
            f"cannot make {path}, where rows of a stream are kept until they are encoded: "
            f"{error.strerror}; let TMPDIR name a folder that you may write to"
        ) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class StreamPosition(msgspec.Struct, frozen=True, kw_only=True):
    """Position up to which one split of a data set has been read.

    Attributes:
        source: The data set.
        split: Name of the split.
        num_rows: Rows from its beginning that are done: in the store, or failures.
        end_row: End of the group that was begun after them.
    """

    source: str
    split: str
    num_rows: int = 0
    end_row: int = 0


class StreamPositions:
    """The positions of all streams that have been read into a store."""

    def __init__(self, folder: Folder) -> None:
        """Read them.

        Raises:
            StoreError: The file is damaged.
        """
        self._folder = folder
        try:
            with folder.open(STREAMS) as file:
                found = msgspec.json.decode(file.read(), type=list[StreamPosition])
        except FileNotFoundError:
            found = []
        except msgspec.DecodeError as error:
            raise StoreError(
                f"{folder.where(STREAMS)} cannot be read: {error}; remove it, and streams are "
                "read again from their beginnings, past what the store holds"
            ) from error
        self._positions = {(one.source, one.split): one for one in found}

    def find(self, source: str, split: str) -> StreamPosition:
        """Position of a stream; its beginning if it has never been read."""
        return self._positions.get((source, split), StreamPosition(source=source, split=split))

    def note(self, position: StreamPosition) -> None:
        """Write the position of a stream.

        Raises:
            OutputError: The file cannot be written.
        """
        self._positions[position.source, position.split] = position
        text = _encoded(self._positions.values())

        def write(temporary: Path) -> None:
            temporary.write_bytes(text)

        self._folder.write_whole(STREAMS, write)


def _encoded(positions: Iterable[StreamPosition]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(list(positions)), indent=2) + b"\n"
