"""Audio in tar archives, as WebDataset keeps it: listed by their headers, read in place."""

from __future__ import annotations

import dataclasses
import os
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from auricle.audio import ffmpeg
from auricle.audio.inputs import AUDIO_SUFFIXES, choose_audio
from auricle.audio.notes import note
from auricle.errors import AudioError
from auricle.extraction.inputs.folders import expand_files
from auricle.extraction.inputs.identifiers import id_of_whole_path, id_reason, without_suffix
from auricle.extraction.inputs.paths import PathChecker
from auricle.extraction.inputs.records import Listing, Problem, Scope
from auricle.extraction.utterances import Utterance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_CACHED_MEMBERS = 4_000_000
"""Members whose places a process remembers, 24 bytes each: some 10,000 hours."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A member with an audio suffix.

    `offset` and `num_bytes` say where its contents lie in the archive; `reason` why they cannot be
    read from there, None if they can.
    """

    name: str
    offset: int
    num_bytes: int
    reason: str | None = None


PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
PACKED = "is compressed, so its members cannot be reached one by one: unpack it to .tar"


def list_archives(text: str, scope: Scope) -> Listing:
    """The utterances of tar archives: a file, a pattern, a range `{000..012}`, a folder of them.

    Each member with an audio suffix is one; its id is its name without that suffix, so names differ
    from archive to archive. Names that are absolute or hold `..` are problems. What is whole of an
    archive that has been cut short is listed, and the cut is a problem. So are compressed archives
    in a folder.

    Raises:
        AudioError: An archive is compressed or is none, a pattern matches nothing.
    """
    listing = Listing()
    checker = PathChecker()
    root = None if scope.root is None else os.path.abspath(scope.root)  # noqa: PTH100 - keeps links
    for name in expand_files(text, "*.tar"):
        path = os.path.abspath(name)  # noqa: PTH100 - a link keeps its place
        if wrong := checker.verdict(path, root):
            kind, reason = wrong
            listing.problems.append(Problem(kind=kind, manifest=text, source=path, reason=reason))
        else:
            above = f"{id_of_whole_path(path, name)}/" if scope.ids_by_path else ""
            listing.extend(_list_archive(path, scope.channel, above))
    packed = sorted(Path(text).rglob("*")) if Path(text).is_dir() else ()
    for file in packed:
        if file.name.lower().endswith(PACKED_SUFFIXES) and not file.name.startswith("."):
            problem = Problem(
                kind="unreadable", manifest=text, source=str(file), reason=f"{file} {PACKED}"
            )
            listing.problems.append(problem)
    return listing


def _list_archive(path: str, channel: int | None, above: str) -> Listing:
    listing = Listing()
    try:
        for member in audio_members(path):
            name = above + without_suffix(member.name.removeprefix("./"))
            reason = id_reason(name)
            if reason is None and member.reason is None:
                utterance = Utterance(
                    id=name, source=path, container="tar", member=member.name, channel=channel
                )
                listing.utterances.append(utterance)
                continue
            is_unsafe = member.name.startswith("/") or ".." in member.name.split("/")
            listing.problems.append(
                Problem(
                    kind="escape" if is_unsafe else "unreadable",
                    manifest=path,
                    source=path,
                    reason=f"member {member.name!r}: {reason or member.reason}",
                )
            )
    except tarfile.TarError as error:
        if not listing.utterances and not listing.problems:
            raise AudioError(_no_archive(path, error)) from error
        listing.problems.append(
            Problem(
                kind="unreadable",
                manifest=path,
                source=path,
                reason=f"the archive is damaged or has been cut short ({error}): members after "
                f"the first {len(listing.utterances)} are lost; copy it again",
            )
        )
    if not listing.problems and not _has_end(path):
        note(
            "tar end",
            f"{path}: no zeros mark its end, so that it may have been cut short between members",
        )
    if any(_suffix(one.member) not in AUDIO_SUFFIXES for one in listing.utterances):
        chosen = set(choose_audio([PurePosixPath(one.member) for one in listing.utterances], path))
        listing.utterances = [u for u in listing.utterances if PurePosixPath(u.member) in chosen]
    return listing


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def audio_members(path: str) -> Iterator[Member]:
    """The members of an uncompressed archive that have an audio suffix, in its order.

    Raises:
        AudioError: The archive cannot be opened.
        tarfile.TarError: It is none, is compressed or damaged; what came before is whole.
    """
    suffixes = AUDIO_SUFFIXES | ffmpeg.FOREIGN_SUFFIXES
    try:
        num_archive_bytes = Path(path).stat().st_size
        archive = tarfile.open(path, "r:")  # noqa: SIM115 - closed below
    except OSError as error:
        raise AudioError(f"cannot open {path}: {error.strerror}; check the path") from error
    with archive:
        while (info := archive.next() or _next_archive(archive, path)) is not None:
            # Else every header stays in memory.
            archive.members = []  # type: ignore[attr-defined]  # typeshed leaves it out
            path_in_archive = PurePosixPath(info.name)
            is_audio = path_in_archive.suffix.lower() in suffixes
            if info.isdir() or not is_audio or path_in_archive.name.startswith("."):
                continue
            reason = None
            if not info.isreg() or info.issparse():
                reason = "it is a link or a special file, expected a regular file: pack it again"
            elif info.offset_data + info.size > num_archive_bytes:
                reason = "the archive ends within it: copy the archive again"
            yield Member(
                name=info.name, offset=info.offset_data, num_bytes=info.size, reason=reason
            )


def _next_archive(archive: tarfile.TarFile, path: str) -> tarfile.TarInfo | None:
    """The first member after the zeros that end an archive, where another one was appended.

    Raises:
        tarfile.TarError: What follows is no header; tarfile takes a damaged one for the end.
    """
    offset = archive.offset
    with Path(path).open("rb") as file:
        file.seek(offset)
        while (block := file.read(tarfile.RECORDSIZE)) and not any(block):
            offset += len(block)
        rest = len(block) - len(block.lstrip(b"\0"))
    if not block:
        return None
    offset += rest // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
    damaged = tarfile.ReadError(f"damaged header at byte {offset}")
    if offset == archive.offset:
        raise damaged
    archive.offset = offset
    found = archive.next()
    if found is None:
        raise damaged
    return found


def _has_end(path: str) -> bool:
    """Does an archive end with zeros, as it should?"""
    with Path(path).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - tarfile.BLOCKSIZE))
        return not any(file.read())


def _no_archive(path: str, error: tarfile.TarError) -> str:
    return (
        f"cannot read {path} as a tar archive: {error}; a compressed one must be unpacked first, "
        "its members cannot be reached one by one"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Index:
    """Where the members of one archive lie, sorted by the hashes of their names."""

    hashes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]


class ArchiveIndexes:
    """Places of members of the archives read last; each archive's headers are read once.

    Beyond `max_members` the archives that were used longest ago are forgotten. Threads may share
    it.
    """

    def __init__(self, max_members: int = MAX_CACHED_MEMBERS) -> None:
        self._max_members = max_members
        self._lock = threading.Lock()
        self._indexes: OrderedDict[tuple[str, int, int], _Index] = OrderedDict()

    @property
    def num_members(self) -> int:
        """Members whose places are remembered now."""
        return sum(len(index.hashes) for index in self._indexes.values())

    def place(self, path: str, member: str) -> tuple[int, int]:
        """Where a member's contents begin, and their length, in bytes.

        Raises:
            AudioError: The archive cannot be read, or has no such member.
        """
        try:
            status = Path(path).stat()
        except OSError as error:
            raise AudioError(f"cannot open {path}: {error.strerror}; check the path") from error
        key = (path, status.st_mtime_ns, status.st_size)
        with self._lock:
            index = self._indexes.get(key)
            if index is None:
                index = self._indexes[key] = _read_index(path)
                while len(self._indexes) > 1 and self.num_members > self._max_members:
                    self._indexes.popitem(last=False)
            self._indexes.move_to_end(key)
        wanted = hash(member)
        position = int(index.hashes.searchsorted(wanted))
        if position == len(index.hashes) or index.hashes[position] != wanted:
            raise AudioError(f"{path} has no readable member {member!r}: has it been replaced?")
        return int(index.offsets[position]), int(index.sizes[position])


def _read_index(path: str) -> _Index:
    import numpy as np

    members = []
    try:
        for member in audio_members(path):
            if member.reason is None:
                members.append(member)  # noqa: PERF401 - kept where the archive has been cut
    except tarfile.TarError as error:
        if not members:
            raise AudioError(_no_archive(path, error)) from error
    table = np.array([(hash(m.name), m.offset, m.num_bytes) for m in members], np.int64)
    table = table.reshape(-1, 3)
    table = table[np.argsort(table[:, 0], kind="stable")]
    if len(np.unique(table[:, 0])) < len(table):
        raise AudioError(f"{path} has two members of one name: pack it again")
    return _Index(*(np.ascontiguousarray(column) for column in table.T))
