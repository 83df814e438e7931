"""Audio files, folders of them, and patterns."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from auricle.audio.inputs import audio_suffixes, choose_audio, list_audio_files
from auricle.errors import AudioError
from auricle.extraction.inputs.identifiers import id_of_whole_path, id_reason, without_suffix
from auricle.extraction.inputs.paths import PathChecker
from auricle.extraction.inputs.records import Listing, Problem, ProblemKind, Scope
from auricle.extraction.utterances import Utterance

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
    checker.check((source, root) for source, _ in found)
    for source, relative in found:
        name = id_of_whole_path(source, text) if scope.ids_by_path else without_suffix(relative)
        wrong: tuple[ProblemKind, str] | None = checker.verdict(source, root)
        if wrong is None and (reason := id_reason(name)):
            wrong = ("unreadable", reason)
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
    path that does not exist stands for itself too, so that opening it tells what is wrong.

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
