"""The audio that a store was made from, compared with what goes by the same ids now."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from auricle.corpus.in_memory import FOLDER_PREFIX
from auricle.corpus.reading import fingerprint, source_stat, utterance_seconds
from auricle.corpus.utterance import Fingerprint, Utterance
from auricle.errors import AudioError, OutputError
from auricle.store.layout import ShardKey
from auricle.store.shards import path_text

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

NUM_THREADS = 16
"""Files looked at at once: what takes long is waiting for a disk or a network."""

SECONDS_TOLERANCE = 0.01
"""Tolerance of the length in a list against that of the whole file: lists round."""

START_TOLERANCE = 1e-6
"""Rounding of one number of seconds written in two ways."""

NUM_EXAMPLES = 3

CHUNK = 256
"""Utterances for a thread at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Record in the index of the audio of an utterance.

    Attributes:
        source: Where it came from, as text.
        start: Where it begins there, in seconds.
        seconds: How long it is.
        channel: Counted from 0; None for the mean of all.
        fingerprint: Its identity; None in stores of versions that kept none.
    """

    source: str
    start: float
    seconds: float | None
    channel: int | None
    fingerprint: Fingerprint | None

    @classmethod
    def of(cls, utterance: Utterance, fingerprint: Fingerprint | None) -> Encoded:
        """An utterance as a run has encoded it, whose shard is not in the index yet."""
        return cls(
            source=path_text(utterance.origin),
            start=utterance.start,
            seconds=utterance.seconds,
            channel=utterance.channel,
            fingerprint=fingerprint,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """An id under which the store holds other audio than a run's, and in what it differs."""

    id: str
    reason: str


@dataclasses.dataclass
class Comparison:
    """Outcome of comparing what a store holds with the utterances of a run.

    Attributes:
        kept: Ids that it holds, but for the changed ones.
        changed: Ids whose audio is another one now, by the shard that holds them.
        num_unknown: Ids of the run whose audio cannot be compared: no fingerprint was kept.
        num_gone: Ids that are none of the run's, and whose source is not there any more.
    """

    kept: set[str] = dataclasses.field(default_factory=set)
    changed: dict[ShardKey, list[Change]] = dataclasses.field(default_factory=dict)
    num_unknown: int = 0
    num_gone: int = 0

    @property
    def changes(self) -> list[Change]:
        """All changes."""
        return [change for changes in self.changed.values() for change in changes]

    def report(self, location: str, *, refuses: bool) -> None:
        """Log what could not be compared, or has no source any more.

        Args:
            location: Of the store.
            refuses: Whether a change is an error.

        Raises:
            OutputError: Something has changed, which is refused.
        """
        if refuses and self.changes:
            raise OutputError(self._refusal(location, self.changes))
        if self.num_unknown:
            logger.warning(
                "%s: of %s it is not known whether their audio has changed, for an earlier version "
                "encoded them, which kept no digests; take another folder to be sure",
                location,
                counted(self.num_unknown, "id"),
            )
        if self.num_gone:
            logger.warning(
                "%s: the sources of %s are not there any more; what was encoded of them stays",
                location,
                counted(self.num_gone, "id"),
            )

    def _refusal(self, location: str, changes: Sequence[Change]) -> str:
        shown = "; ".join(change.reason for change in changes[:NUM_EXAMPLES])
        more = len(changes) - NUM_EXAMPLES
        shown += f"; and {more} more" if more > 0 else ""
        return (
            f"{location} holds other audio under {counted(len(changes), 'id')} of these inputs: "
            f"{shown}. Nothing was encoded. If files were replaced, encode these ids again with "
            "refresh=True (--refresh); if this is another corpus, take another folder for it, or "
            'ids that tell them apart with ids="path" (--ids path)'
        )


def compare(
    parts: Iterable[tuple[ShardKey, pyarrow.Table]], utterances: Sequence[Utterance]
) -> Comparison:
    """Compare what a store holds with the utterances of a run.

    A source of the same path, size and modification time is the same. Where one of them differs,
    contents decide, by their sha256: a corpus may be moved, copied or touched.

    Args:
        parts: Rows of the index by shard.
        utterances: Those of the run.
    """
    listed = {utterance.id: utterance for utterance in utterances}
    root = _common_folder(utterances)
    found = Comparison()
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for key, rows in parts:
            held = _encoded(rows)
            pairs = [(listed[name], one) for name, one in held.items() if name in listed]
            chunks = [pairs[first : first + CHUNK] for first in range(0, len(pairs), CHUNK)]
            reasons = [reason for some in pool.map(_differences, chunks) for reason in some]
            changes = []
            for (utterance, encoded), reason in zip(pairs, reasons, strict=True):
                if reason is not None:
                    changes.append(Change(id=utterance.id, reason=reason))
                elif encoded.fingerprint is None:
                    found.num_unknown += 1
            if changes:
                found.changed[key] = changes
            found.kept |= held.keys() - {change.id for change in changes}
            if root is not None:
                others = (one for name, one in held.items() if name not in listed)
                found.num_gone += sum(_is_gone(one, root) for one in others)
    return found


def _common_folder(utterances: Sequence[Utterance]) -> str | None:
    """The folder below which the files of utterances lie; None where none is a file."""
    files = (u.source for u in utterances if u.container in ("file", "tar"))
    folders = {os.path.dirname(file) for file in files}  # noqa: PTH120 - a Path each is slow
    return os.path.commonpath(map(os.path.abspath, folders)) if folders else None


def _is_gone(encoded: Encoded, root: str) -> bool:
    """True if what was encoded lay in a file below `root` that is not there any more."""
    source = encoded.source
    if encoded.fingerprint is None or encoded.fingerprint.mtime_ns is None:
        return False
    if FOLDER_PREFIX in source:
        return False  # a waveform of a program, which is kept for a run alone
    if not source.startswith(root.rstrip(os.sep) + os.sep) or "\\udc" in source:
        return False  # elsewhere, or a path that is no text
    ends = [place for place, character in enumerate(source) if character == ":"]
    return not any(os.path.lexists(source[:end]) for end in [*ends, len(source)])


def _differences(pairs: Iterable[tuple[Utterance, Encoded]]) -> list[str | None]:
    return [difference(utterance, encoded) for utterance, encoded in pairs]


def difference(utterance: Utterance, encoded: Encoded) -> str | None:
    """The reason why audio is not what was encoded under its id; None where it is.

    What cannot be compared, or cannot be read now, is taken for the same.
    """
    now = path_text(utterance.origin)
    if (reason := _part_difference(utterance, encoded)) is not None:
        return f"{utterance.id} was {reason} of {encoded.source}"
    before = encoded.fingerprint
    if before is None:
        if now == encoded.source:
            return None
        return (
            f"{utterance.id} was {encoded.source}, and is {now} (whether their contents differ is "
            "not known, for the version that encoded it kept no digest)"
        )
    num_bytes, mtime_ns = source_stat(utterance)
    is_same_file = now == encoded.source and mtime_ns is not None and mtime_ns == before.mtime_ns
    if is_same_file and num_bytes in (None, before.num_bytes):
        return None
    try:
        found = fingerprint(utterance)
    except (AudioError, OSError):
        return None
    if (found.num_bytes, found.sha256) == (before.num_bytes, before.sha256):
        return None
    if now == encoded.source:
        return f"{utterance.id} ({now}) has changed since"
    return f"{utterance.id} was {encoded.source}, and is {now}, with other contents"


def has_changed(utterance: Utterance, before: Fingerprint | None) -> bool:
    """True if the audio of an utterance is another one than when it was encoded, or could not be.

    Args:
        utterance: As it was planned.
        before: Identity of its audio then; None where that could not be read.
    """
    if before is not None:
        return difference(utterance, Encoded.of(utterance, before)) is not None
    try:
        fingerprint(utterance)
    except (AudioError, OSError):
        return False
    return True


def _part_difference(utterance: Utterance, encoded: Encoded) -> str | None:
    """The part that was encoded, in words, where another one is asked for; else None."""
    before = encoded.fingerprint
    if before is not None and encoded.channel != utterance.channel:
        return f"{_channel(encoded.channel)} (now {_channel(utterance.channel)})"
    asked, wanted = before.part_seconds if before is not None else None, utterance.seconds
    if asked is not None and wanted is not None:
        is_same = abs(asked - wanted) <= START_TOLERANCE
    else:
        # One is all up to the end, whose length a list may round.
        length = asked if wanted is None else wanted
        whole = encoded.seconds
        if asked is not None and abs(encoded.start - utterance.start) <= START_TOLERANCE:
            (now,) = utterance_seconds([utterance], 1)
            whole = None if isinstance(now, AudioError) else now
        whole = length if whole is None else whole
        is_same = length is None or whole is None or abs(length - whole) <= SECONDS_TOLERANCE
    if is_same and abs(encoded.start - utterance.start) <= START_TOLERANCE:
        return None
    was, is_now = _part(encoded.start, asked or encoded.seconds), _part(utterance.start, wanted)
    return f"{was} (now {is_now})"


def _channel(channel: int | None) -> str:
    return "the mean of all channels" if channel is None else f"channel {channel}"


def _part(start: float, seconds: float | None) -> str:
    return f"all from {start:g} s" if seconds is None else f"{seconds:g} s from {start:g} s"


def _encoded(rows: pyarrow.Table) -> dict[str, Encoded]:
    """Records of rows of the index by id; of several layers the first speaks for all."""
    encoded: dict[str, Encoded] = {}
    for row in rows.select(["id", *_COLUMNS]).to_batches():
        columns = [column.to_pylist() for column in row.columns]
        for name, source, start, seconds, channel, part, size, mtime_ns, sha256 in zip(
            *columns, strict=True
        ):
            if name in encoded:
                continue
            kept = None
            if sha256 is not None:
                kept = Fingerprint(
                    num_bytes=size, mtime_ns=mtime_ns, sha256=sha256, part_seconds=part
                )
            encoded[name] = Encoded(
                source=source, start=start, seconds=seconds, channel=channel, fingerprint=kept
            )
    return encoded


_COLUMNS = (
    "source",
    "start",
    "seconds",
    "channel",
    "part_seconds",
    "source_bytes",
    "source_mtime_ns",
    "source_sha256",
)
"""Of the index, in the order in which `_encoded` takes them."""


def counted(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
