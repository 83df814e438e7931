"""Audio in files, folders, patterns, and the uncompressed tar archives of WebDataset."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
import tarfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from auricle.audio import ffmpeg
from auricle.audio.inputs import AUDIO_SUFFIXES, audio_suffixes, choose_audio, list_audio_files
from auricle.audio.notes import note
from auricle.corpus.manifests import PathChecker
from auricle.corpus.utterance import (
    Listing,
    Problem,
    ProblemKind,
    Scope,
    Utterance,
    id_of_whole_path,
    id_reason,
    without_suffix,
)
from auricle.errors import AudioError

if TYPE_CHECKING:
    pass


BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")

MAX_EXPANSIONS = 1_000_000
"""More names than that from one range are a slip of the keyboard."""


def list_audio(text: str, scope: Scope) -> Listing:
    """The utterances of a file, a folder or a pattern, their ids relative paths without suffix.

    A folder is searched at any depth for audio suffixes; so are the folders that a pattern finds.
    A file is taken whatever its suffix. What a folder or a pattern finds keeps its tree below that
    folder or below the pattern's fixed part. Links to files are followed, out of the folder too,
    unless the scope has a root.

    Raises:
        AudioError: A folder or a pattern holds no audio files.
    """
    listing = Listing()
    checker = PathChecker()
    root = None if scope.root is None else os.path.abspath(scope.root)  # noqa: PTH100 - keeps links
    found = [
        (os.path.abspath(path), relative.as_posix())  # noqa: PTH100 - a link keeps its name
        for name in expand_braces(text)
        for path, relative in _expand(name)
    ]
    if scope.is_strict:
        checker.check((source, root) for source, _ in found)
    for source, relative in found:
        name = id_of_whole_path(source, text) if scope.ids_by_path else without_suffix(relative)
        wrong: tuple[ProblemKind, str] | None = None
        if scope.is_strict:
            reason = id_reason(name)
            wrong = checker.verdict(source, root) or (("unreadable", reason) if reason else None)
        if wrong is None:
            listing.utterances.append(Utterance(id=name, source=source, channel=scope.channel))
            continue
        listing.problems.append(
            Problem(kind=wrong[0], manifest=text, id=name, source=source, reason=wrong[1])
        )
    return listing


def expand_files(text: str, folder_pattern: str | None = None) -> list[str]:
    """The files that a path, a pattern or a folder stands for, sorted.

    A folder stands for what `folder_pattern` finds in it at any depth, or without one for itself. A
    path that does not exist stands for itself too, so that opening it gives the error.

    Raises:
        AudioError: A pattern matches nothing, a folder holds nothing of the kind.
    """
    files: list[str] = []
    for name in expand_braces(text):
        pattern = name
        if folder_pattern is not None and Path(name).is_dir():
            pattern = os.path.join(glob.escape(name), "**", folder_pattern)  # noqa: PTH118 - a pattern
        elif not glob.has_magic(name) or Path(name).exists():
            files.append(name)
            continue
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        if not matches:
            raise AudioError(f"no file matches {pattern!r}; check the path")
        files += matches
    return files


def expand_braces(text: str) -> list[str]:
    """Names that `{000..012}` and `{a,b}` in a text stand for; the text itself if it exists.

    Numbers are as wide as the range's first one.

    Raises:
        AudioError: A range runs backwards, or stands for more than `MAX_EXPANSIONS` names.
    """
    if "{" not in text or Path(text).exists():
        return [text]
    pieces: list[list[str]] = []
    num_names = 1
    end = 0
    for match in BRACES.finditer(text):
        choices = _choices(match.group(1), text)
        num_names *= len(choices)
        if num_names > MAX_EXPANSIONS:
            raise AudioError(f"{text!r} stands for more than {MAX_EXPANSIONS} names; narrow it")
        pieces += [[text[end : match.start()]], choices]
        end = match.end()
    pieces.append([text[end:]])
    return ["".join(parts) for parts in product(*pieces)]


def _choices(inner: str, text: str) -> list[str]:
    match = RANGE.fullmatch(inner)
    if match is None:
        return inner.split(",") if "," in inner else [f"{{{inner}}}"]
    first, last = int(match.group(1)), int(match.group(2))
    if not first <= last < first + MAX_EXPANSIONS:
        raise AudioError(
            f"the range {{{inner}}} of {text!r} must run upwards, by at most {MAX_EXPANSIONS}"
        )
    width = len(match.group(1))
    return [f"{value:0{width}d}" for value in range(first, last + 1)]


def _expand(text: str) -> Iterator[tuple[Path, Path]]:
    """Audio files that one input stands for, each with its place in the output's tree."""
    path = Path(text)
    if path.is_dir():
        found = list_audio_files(path)
        if not found:
            raise AudioError(f"{path} holds no audio files; looked for {_suffixes()}")
        yield from ((file, file.relative_to(path)) for file in found)
    elif glob.has_magic(text) and not path.exists():
        yield from _expand_pattern(text)
    else:
        yield path, Path(path.name)


def _expand_pattern(pattern: str) -> Iterator[tuple[Path, Path]]:
    root = Path(*_fixed_parts(Path(pattern)))
    matches = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 - Path.glob refuses absolute patterns
    folders = [match for match in matches if match.is_dir()]
    chosen = choose_audio((match for match in matches if not match.is_dir()), pattern)
    files = dict.fromkeys(sorted(chosen, key=lambda path: path.parts))
    for folder in folders:
        files.update(dict.fromkeys(list_audio_files(folder)))
    if not files:
        raise AudioError(f"no audio file matches {pattern!r}; looked for {_suffixes()}")
    yield from ((file, file.relative_to(root)) for file in files)


def _fixed_parts(pattern: Path) -> list[str]:
    """The folders of a pattern before the first part with a wildcard."""
    parts = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


def _suffixes() -> str:
    return " ".join(sorted(audio_suffixes()))


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
            problem = Problem(manifest=text, source=str(file), reason=f"{file} {PACKED}")
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
    """True if an archive ends with zeros, as it should."""
    with Path(path).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - tarfile.BLOCKSIZE))
        return not any(file.read())


def _no_archive(path: str, error: tarfile.TarError) -> str:
    return (
        f"cannot read {path} as a tar archive: {error}; a compressed one must be unpacked first, "
        "its members cannot be reached one by one"
    )
