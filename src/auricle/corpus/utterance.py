"""Utterance: the record of audio to extract, train on, probe or plot; its id and its names."""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeAlias

from auricle.audio.inputs import AUDIO_SUFFIXES
from auricle.errors import AudioError

Container: TypeAlias = Literal["file", "tar", "dataset", "stream"]
"""Type of a source: a file of its own, a tar archive, a Hugging Face dataset, one that is read as a
stream, row after row."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """Identity of the audio that was encoded, by which a replaced file is noticed.

    Attributes:
        num_bytes: Size of the audio file: a file of its own, a tar archive's member, a row's.
        mtime_ns: Modification time of the file or archive that holds it, in nanoseconds since
            1970; None where there is none, as of a row of a stream.
        sha256: Digest of those bytes, in hex.
        part_seconds: Length of the part that was asked for; None for all up to the end.
    """

    num_bytes: int
    mtime_ns: int | None
    sha256: str
    part_seconds: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A labelled part of an utterance, such as a phone, from `start` up to `end` in seconds."""

    start: float
    end: float
    label: str


NO_LABELS: Mapping[str, str] = {}
"""Shared by all utterances without labels, of which a corpus may have millions; never changed."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """Audio of one utterance: where it lies, its id, and its labels.

    Extraction, pretraining, probes and pictures read this record; `list_utterances` makes it.

    Attributes:
        id: Unique in a store: a relative path without its suffix, or the id that a list states.
        source: Path of the file, the archive or the dataset's folder; a dataset's name.
        container: Type of `source`.
        member: Name of the file in the archive, or "split:row" of the dataset; "" for a file.
        start: Start within the file, in seconds.
        seconds: Length; None where no list states it: up to the end of the file.
        channel: Counted from 0; None for the mean of all.
        spooled: Path of the file in which this run keeps a row of a stream; "" for all else.
        labels: Text of the list's columns by name in lower case, such as "speaker", "split" or
            "word"; empty unless it was listed with labels.
        segments: Labelled parts, such as phones, in order; times count from `start`.
        fingerprint: Identity of its audio, once that has been read; utterances are compared
            without it.
    """

    id: str
    source: str
    container: Container = "file"
    member: str = ""
    start: float = 0.0
    seconds: float | None = None
    channel: int | None = None
    spooled: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=lambda: NO_LABELS, hash=False)
    segments: tuple[Segment, ...] = ()
    fingerprint: Fingerprint | None = dataclasses.field(default=None, compare=False)

    @property
    def origin(self) -> str:
        """Origin of the audio as one text: the source, and the member where it has any."""
        return f"{self.source}:{self.member}" if self.member else self.source


ProblemKind: TypeAlias = Literal["missing", "escape", "unreadable"]
"""The audio is not there; it lies outside of the root; the row does not say what it must."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A row of an input that cannot be used, and the reason.

    Attributes:
        kind: In one word.
        manifest: The file that lists it, or the input itself.
        line: Its line, or row of a table without lines, counted from 1; None where there is none.
        id: Its id, "" where that is not known.
        source: The audio it means, "" where that is not known.
        reason: What was found, what was expected, what to do.
    """

    kind: ProblemKind = "unreadable"
    manifest: str
    line: int | None = None
    id: str = ""
    source: str = ""
    reason: str

    def __str__(self) -> str:
        place = self.manifest if self.line is None else f"{self.manifest}, line {self.line}"
        return f"{place}: {self.reason}"


@dataclasses.dataclass(kw_only=True, slots=True)
class Listing:
    """Utterances in the order of the inputs, and the rows that cannot be used.

    `known_seconds` holds, by id, the length that a list states of audio that is read whole. It
    serves planning alone: lists round.
    """

    utterances: list[Utterance] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    known_seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def extend(self, other: Listing) -> None:
        """Append what another listing holds."""
        self.utterances += other.utterances
        self.problems += other.problems
        self.known_seconds.update(other.known_seconds)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Options of one listing, for all of its inputs.

    Attributes:
        root: Folder that no path may leave; None for each list's own.
        channel: Taken where a list names none.
        ids_by_path: Make ids that come from paths of the whole path as the input gives it, not of
            the part below the input's folder.
        with_labels: Fill `Utterance.labels`.
        is_strict: Check that files exist, that they lie below the root or their list's folder, and
            that ids can be names of files.
        takes_ids: Let a row of a table name its audio by an id alone, as one of labels does.
    """

    root: Path | None = None
    channel: int | None = None
    ids_by_path: bool = False
    with_labels: bool = False
    is_strict: bool = True
    takes_ids: bool = False


def labels_of(cells: Mapping[str, object]) -> dict[str, str]:
    """Labels of a row: its numbers and texts by column name in lower case, "" for no value."""
    return {
        str(name).strip().lower(): "" if value is None else str(value)
        for name, value in cells.items()
        if value is None or isinstance(value, str | int | float | Decimal)
    }


Lister: TypeAlias = Callable[[str, Scope], Listing]
"""Lists one input, given as text."""


def unreadable(path: str, error: Exception) -> AudioError:
    """The error of a list that cannot be opened or is not in its format."""
    reason = getattr(error, "strerror", None) or error
    return AudioError(f"cannot read {path}: {reason}; check the path and its format")


MAX_PART_BYTES = 240
"""File systems allow 255 bytes between slashes; a suffix still has to fit."""


def id_reason(name: str) -> str | None:
    """Reason for which a name cannot be an id; None if it can."""
    if not name:
        return "the id is empty: name one"
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"the id {name!r} is not UTF-8: rename the file, or give an id"
    if not name.isascii() or not name.isprintable():
        # Letters of every script are welcome, and so are spaces; what controls a terminal is not.
        bad = next((c for c in name if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
        if bad is not None:
            return f"the id {name!r} holds the control character {bad!r}: rename it"
    if name.startswith("/"):
        return f"the id {name!r} is an absolute path: give a relative one"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return f"the id {name!r} has the part {part!r}: leave it out, ids become file names"
        if len(part) > MAX_PART_BYTES // 4 and len(part.encode()) > MAX_PART_BYTES:
            return (
                f"the id {name[:40]!r}... has a part of {len(part.encode())} bytes, expected at "
                f"most {MAX_PART_BYTES}: give a shorter id"
            )
    return None


def id_of_path(path: str, folders: tuple[str, ...]) -> str:
    """The id of a file: its path below the first of `folders` that holds it, without suffix.

    Where none holds it, the name alone. All paths are absolute.
    """
    normal = os.path.normpath(path)
    for folder in folders:
        prefix = folder.rstrip(os.sep) + os.sep
        if normal.startswith(prefix):
            return without_suffix(normal[len(prefix) :].replace(os.sep, "/"))
    return without_suffix(os.path.basename(normal))  # noqa: PTH119 - a Path each would double the time


def id_of_whole_path(path: str, given: str) -> str:
    """The id of a file by all of its path, without suffix.

    Args:
        path: Absolute.
        given: The input that it comes from. A relative one gives the path from the current folder
            on, where the file lies below that.
    """
    relative = os.path.relpath(path)
    is_below = relative != os.pardir and not relative.startswith(os.pardir + os.sep)
    is_whole = Path(given).is_absolute() or not is_below
    whole = os.path.splitdrive(path)[1] if is_whole else relative
    return without_suffix(whole.replace(os.sep, "/").lstrip("/"))


def without_suffix(name: str) -> str:
    """A relative path in POSIX form without the last suffix of its last part."""
    return os.path.splitext(name)[0]  # noqa: PTH122 - a Path each would double the time


def id_of_part(name: str, start: float, end: float | None) -> str:
    """The id of a part of a file whose list names none: the file's, and the part's milliseconds."""
    marks = [start] if end is None else [start, end]
    return "-".join([name, *(f"{round(1000 * mark):09d}" for mark in marks)])


class UtteranceNames:
    """Utterances by the names that tables and alignments give them.

    A name is the id, or as many of the last parts of the id or of the file's path as the writer of
    the table cared to state, with or without the suffix of an audio file.
    """

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._utterances = utterances
        self._by_id: dict[str, list[int]] = {}
        self._by_last: dict[str, dict[int, None]] = {}
        for index, one in enumerate(utterances):
            self._by_id.setdefault(one.id, []).append(index)
            for parts in self._parts_of(one):
                self._by_last.setdefault(parts[-1], {})[index] = None

    def find(self, name: str, folder: str = "", *, is_longer: bool = False) -> int | None:
        """Index of the utterance of a name; None where there is none.

        Args:
            name: An id or a path, relative ones also below `folder`.
            folder: Folder of the table that names it.
            is_longer: Take also names that have more parts than the id, such as those of files of
                labels that lie in folders of their own.

        Raises:
            AudioError: The name means several utterances.
        """
        if exact := self._by_id.get(name):
            return self._only(exact, name)
        below = os.path.join(folder, name) if name.startswith(("./", "../")) else name  # noqa: PTH118 - text
        parts = _parts(below)
        near = self._by_last.get(parts[-1], {})
        found = [i for i in near if any(_ends(own, parts) for own in self._parts_of_index(i))]
        if not found and name.startswith("./"):  # of `find .` in the audio's folder
            parts = _parts(name)
            found = [i for i in near if any(_ends(own, parts) for own in self._parts_of_index(i))]
        if not found and is_longer:
            found = [i for i in near if _ends(parts, _parts(self._utterances[i].id))]
        return self._only(found, name) if found else None

    def find_first(self, names: Sequence[str], folder: str) -> int | None:
        """As `find`, of the first of these names that there is; "" is no name."""
        found = (self.find(name, folder) for name in names if name)
        return next((place for place in found if place is not None), None)

    def _parts_of_index(self, index: int) -> list[tuple[str, ...]]:
        return self._parts_of(self._utterances[index])

    @staticmethod
    def _parts_of(one: Utterance) -> list[tuple[str, ...]]:
        path = one.member if one.container == "tar" else os.path.abspath(one.source)  # noqa: PTH100 - keeps links
        return [_parts(one.id), *([_parts(path)] if one.container in ("file", "tar") else [])]

    def _only(self, found: list[int], name: str) -> int:
        if len(found) > 1:
            first, second = (self._utterances[index].id for index in found[:2])
            raise AudioError(
                f"{name!r} means {len(found)} utterances, such as {first!r} and {second!r}: name "
                "it by its whole id"
            )
        return found[0]


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path or an id, without the suffix of an audio file."""
    plain = os.path.normpath(name).replace(os.sep, "/")
    stem = without_suffix(plain)
    is_audio = plain.removeprefix(stem).lower() in AUDIO_SUFFIXES
    return tuple((stem if is_audio else plain).split("/"))


def _ends(parts: tuple[str, ...], last: tuple[str, ...]) -> bool:
    return parts[-len(last) :] == last
