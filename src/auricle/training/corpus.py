"""The audio of a training: utterances, found in folders or listed in manifests."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from auricle.audio.files import read_audio, read_header
from auricle.audio.inputs import list_audio_files
from auricle.corpus.columns import read_columns
from auricle.errors import AudioError
from auricle.geometry import SAMPLE_RATE

logger = logging.getLogger(__name__)

MANIFEST_SUFFIX = ".tsv"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utterance:
    """One file of audio.

    `key` is its path below the folder or manifest it was found by, the same wherever that lies;
    `num_samples` counts at 16 kHz.
    """

    path: Path
    key: str
    num_samples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """The utterances of a training, in the order they are counted in."""

    utterances: tuple[Utterance, ...]

    @property
    def hours(self) -> float:
        """Length of all utterances together."""
        return sum(u.num_samples for u in self.utterances) / SAMPLE_RATE / 3600

    @property
    def digest(self) -> str:
        """SHA-256 of the keys and lengths, by which a corpus is told from another."""
        lines = (f"{u.key}\t{u.num_samples}\n" for u in self.utterances)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    def within(self, min_samples: int, max_samples: int | None) -> Corpus:
        """The utterances of such lengths; says in the log how many are left out.

        Raises:
            AudioError: None are left.
        """
        kept = tuple(
            u
            for u in self.utterances
            if u.num_samples >= min_samples
            and (max_samples is None or u.num_samples <= max_samples)
        )
        if not kept:
            raise AudioError(
                f"none of the {len(self.utterances)} utterances is long enough to train on and "
                f"within the recipe's limits: expected at least {min_samples} samples"
                + ("" if max_samples is None else f" and at most {max_samples}")
            )
        if num_left_out := len(self.utterances) - len(kept):
            logger.info("%d utterances are left out for their length", num_left_out)
        return Corpus(utterances=kept)


def read_corpus(sources: Sequence[Path], *, split: str | None = None) -> Corpus:
    """List the utterances of folders (at any depth) and manifests; nothing is decoded.

    A manifest is a TSV file whose first line names its columns (case and blanks do not count):
    `path`, below the manifest's own folder, and, where they are there, `samples` at 16 kHz and
    `split`. Where `samples` is missing the files' headers are read. Files are taken whole.

    Args:
        sources: Folders and manifests.
        split: The rows of the manifests to take; needed where a manifest has several splits.

    Raises:
        AudioError: A source is missing or holds no audio, a manifest lacks a column or the split or
            names parts of files, or a file's header cannot be read.
    """
    utterances: list[Utterance] = []
    for source in sources:
        if source.is_file() and source.suffix.lower() != MANIFEST_SUFFIX:
            raise AudioError(
                f"{source} is a file, expected a folder of audio or a manifest that ends in "
                f"{MANIFEST_SUFFIX}"
            )
        read = _read_manifest(source, split) if source.is_file() else _read_folder(source)
        found = sorted(read, key=lambda utterance: utterance.key)
        if not found:
            raise AudioError(f"{source} holds no audio; pass a folder or a manifest that does")
        utterances += found
    return Corpus(utterances=tuple(utterances))


def _read_folder(folder: Path) -> Iterator[Utterance]:
    for path in list_audio_files(folder):
        key = path.relative_to(folder).as_posix()
        yield Utterance(path=path, key=key, num_samples=_num_samples(path))


def _num_samples(path: Path) -> int:
    """Samples at 16 kHz by the header, or by decoding where that leaves the length open."""
    header = read_header(path)
    if header.num_samples is None:
        return len(read_audio(path, sample_rate=SAMPLE_RATE))
    return header.num_samples * SAMPLE_RATE // header.sample_rate


def _read_manifest(manifest: Path, split: str | None) -> Iterator[Utterance]:
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AudioError(f"cannot read the manifest {manifest}: {error}") from error
    if rows and "path" not in rows[0]:
        raise AudioError(
            f"the manifest {manifest} has no column `path`: its first line must name the columns, "
            f"but names {', '.join(map(str, rows[0]))}"
        )
    _refuse_parts(names, manifest)
    for row in _rows_of_split(rows, manifest, split):
        path = manifest.parent / row["path"]
        samples = row.get("samples")
        if samples is not None and not samples.isdecimal():
            raise AudioError(
                f"{manifest}: the samples of {row['path']} must be a count, but are {samples!r}"
            )
        num_samples = int(samples) if samples else _num_samples(path)
        yield Utterance(path=path, key=row["path"], num_samples=num_samples)


def _refuse_parts(names: Sequence[str], manifest: Path) -> None:
    """Refuse columns that choose parts of files, for files are trained on whole."""
    columns = read_columns(names)
    parts = [column.name for column in (*columns.of["start"], *columns.of["end"])]
    if parts:
        raise AudioError(
            f"the manifest {manifest} names parts of files in its columns {', '.join(parts)}, but "
            "files are trained on whole: cut them first, or leave these columns out"
        )


def _rows_of_split(
    rows: list[dict[str, str]], manifest: Path, split: str | None
) -> list[dict[str, str]]:
    splits = sorted({row["split"] or "" for row in rows if "split" in row})
    if split is None:
        if len(splits) > 1:
            raise AudioError(
                f"{manifest} has the splits {', '.join(splits)}: say by --split which to train on, "
                "so that none is trained on by mistake"
            )
        return rows
    if split not in splits:
        raise AudioError(
            f"{manifest} has no split {split!r}, expected one of: {', '.join(splits) or 'none'}"
        )
    return [row for row in rows if row["split"] == split]
