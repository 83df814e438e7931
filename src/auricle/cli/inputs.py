"""Which files the arguments mean, and where the output of each goes."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from auricle.audio.files import AUDIO_SUFFIXES, list_audio_files
from auricle.errors import AudioError, OutputError


@dataclasses.dataclass(frozen=True)
class Job:
    """One audio file and the file that its representation goes to."""

    source: Path
    output: Path


def plan_jobs(inputs: Sequence[str], folder: Path, suffix: str) -> list[Job]:
    """Files that the inputs stand for, each once, with their outputs below `folder`.

    An input is a file, a folder (searched recursively for audio suffixes) or a pattern. A file
    goes to the folder itself, what a folder or a pattern finds keeps its tree below that folder
    or below the pattern's fixed part. `suffix` is that of the outputs. A path that does not exist
    is among the jobs, so that reading it tells what is wrong.

    Raises:
        AudioError: A folder or a pattern holds no audio files.
        OutputError: Two files would go to one output.
    """
    sources: dict[Path, Path] = {}
    for text in inputs:
        for source, relative in _expand(text):
            output = folder / relative.with_name(f"{relative.stem}{suffix}")
            other = sources.setdefault(output, source)
            if other != source:
                raise OutputError(
                    f"{other} and {source} would both be written to {output}; rename one, extract "
                    "them to folders of their own, or choose one kind of file with a pattern such "
                    "as 'corpus/**/*.wav'"
                )
    return [Job(source, output) for output, source in sources.items()]


def _expand(text: str) -> Iterator[tuple[Path, Path]]:
    """Audio files that one input stands for, each with its place in the output's tree."""
    if not text:
        raise AudioError("an input is empty text; pass a file, a folder or a pattern")
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
    files: dict[Path, None] = {}
    for match in sorted(map(Path, glob.glob(pattern, recursive=True))):  # noqa: PTH207 - Path.glob refuses absolute patterns
        if match.is_dir():
            files.update(dict.fromkeys(list_audio_files(match)))
        elif match.suffix.lower() in AUDIO_SUFFIXES:
            files[match] = None
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
    return " ".join(sorted(AUDIO_SUFFIXES))
