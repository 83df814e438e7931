"""Hugging Face data sets: rows of audio, in a folder or by name."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from auricle.corpus.columns import note_passed_over, read_columns
from auricle.corpus.manifests import PathChecker
from auricle.corpus.utterance import (
    NO_LABELS,
    Listing,
    Problem,
    ProblemKind,
    Scope,
    Utterance,
    id_reason,
    labels_of,
)
from auricle.errors import AudioError
from auricle.optional import missing_extra, missing_module, optional

SCHEME = "hf-dataset://"
SAVED_MARKS = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` writes at the top of its folder: for several splits, for one."""

UNNAMED_SPLIT = "train"
"""Name that the datasets library gives to the split of data that names none."""

MAX_OPEN_SETS = 4
ROWS_AT_ONCE = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetName:
    """A data set as a user names it.

    `source` is the absolute path of a folder, or NAME or OWNER/NAME of the hub, either with
    /CONFIG after it; `split` is None for all.
    """

    source: str
    split: str | None


def parse_name(text: str) -> DatasetName:
    """Read `hf-dataset://NAME_OR_FOLDER[/CONFIG][@SPLIT]`; the scheme may be left out.

    A folder that exists, or a path that begins with `/`, `./` or `../`, is no name of the hub.

    Raises:
        AudioError: There is no name.
    """
    name = text.removeprefix(SCHEME)
    split = None
    if "@" in name and not Path(name).is_dir():
        name, _, split = name.rpartition("@")
    if not name or split == "":
        raise AudioError(f"{text!r} names no data set, expected {SCHEME}NAME[/CONFIG][@SPLIT]")
    if Path(name).is_dir() or name.startswith(("/", "./", "../")):
        name = os.path.abspath(name)  # noqa: PTH100 - a link keeps its place
    return DatasetName(name.rstrip("/"), split)


def is_saved_dataset(folder: str) -> bool:
    """True for a folder that `save_to_disk` wrote."""
    return any(Path(folder, mark).is_file() for mark in SAVED_MARKS)


def list_dataset(text: str, scope: Scope) -> Listing:
    """The utterances of a data set: a row each, of one split or of all.

    Ids are those of an id column, or "SPLIT/ROW" where there is none. A set that is named, not a
    folder, is downloaded to the datasets library's cache first; `stream_groups` need not.

    Raises:
        AudioError: The set cannot be opened, has no such split or no column of audio.
        MissingExtraError: The datasets library is not installed.
    """
    name = parse_name(text)
    open_splits.cache_clear()  # a set that has been written again since is another one
    _split_mtime_ns.cache_clear()
    splits = open_splits(name.source)
    if name.split is not None and name.split not in splits:
        raise AudioError(f"{text} has no split {name.split!r}, but {', '.join(splits)}")
    listing = Listing()
    for split, rows in splits.items():
        if name.split in (None, split):
            listing.extend(_list_split(rows, name.source, split, scope))
    return listing


def row_audio(source: str, member: str) -> tuple[bytes | None, str]:
    """The bytes of a row's file, and its path; the bytes are None where only the path is kept.

    `source` and `member` are an utterance's. Sets opened last stay open in the process.

    Raises:
        AudioError: There is no such row, or no audio in it.
    """
    split, _, row = member.rpartition(":")
    rows = open_splits(source).get(split)
    if rows is None or not 0 <= int(row) < rows.num_rows:
        raise AudioError(f"{source} has no row {member!r}: has it been replaced?")
    column = audio_column(rows.features, source)
    cell = rows.select_columns([column])[int(row)][column] or {}
    contents, path = cell.get("bytes"), cell.get("path") or ""
    if contents is None and not path:
        raise AudioError(f"row {member} of {source} holds no audio")
    if contents is None and Path(source).is_dir():
        path = os.path.join(source, path)  # noqa: PTH118 - an absolute one stays as it is
    return contents, path


def row_mtime_ns(source: str, member: str) -> int | None:
    """Modification time of the files that hold a row's audio, in nanoseconds; None without any.

    Those of its split, or the row's own where the split keeps paths alone.

    Raises:
        AudioError: As for `row_audio`.
    """
    split = member.rpartition(":")[0]
    mtime_ns, keeps_paths = _split_mtime_ns(source, split)
    if not keeps_paths:
        return mtime_ns
    path = Path(row_audio(source, member)[1])
    return path.stat().st_mtime_ns if path.is_file() else None


@functools.lru_cache(maxsize=MAX_OPEN_SETS)
def _split_mtime_ns(source: str, split: str) -> tuple[int | None, bool]:
    """Modification time of the files of a split, and whether its rows are paths alone."""
    rows = open_splits(source).get(split)
    if rows is None:
        return None, False
    files = [Path(file["filename"]) for file in rows.cache_files]
    times = [file.stat().st_mtime_ns for file in files if file.is_file()]
    keeps_paths = rows.num_rows > 0 and row_audio(source, f"{split}:0")[0] is None
    return max(times, default=None), keeps_paths


@functools.lru_cache(maxsize=MAX_OPEN_SETS)
def open_splits(source: str) -> dict[str, Any]:
    """The splits of a data set by name, audio not decoded; opened once in a process.

    Raises:
        AudioError: It cannot be opened.
        MissingExtraError: The datasets library is not installed.
    """
    datasets = _library()
    loaded = _load(datasets, source, is_streaming=False)
    if not isinstance(loaded, Mapping):
        loaded = {str(loaded.split or UNNAMED_SPLIT): loaded}
    return {str(split): undecoded(datasets, rows) for split, rows in loaded.items()}


def load_stream(source: str) -> dict[str, Any]:
    """The splits of a data set as streams of rows, audio not decoded, nothing downloaded ahead.

    Raises:
        AudioError: It cannot be opened.
        MissingExtraError: The datasets library is not installed.
    """
    datasets = _library()
    loaded = _load(datasets, source, is_streaming=True)
    if not isinstance(loaded, Mapping):
        loaded = {str(loaded.split or UNNAMED_SPLIT): loaded}
    streams = {}
    for split, rows in loaded.items():
        stream = rows.to_iterable_dataset() if isinstance(rows, datasets.Dataset) else rows
        streams[str(split)] = undecoded(datasets, stream)
    return streams


def audio_column(features: Mapping[str, Any], source: str) -> str:
    """The name of the column of audio.

    Raises:
        AudioError: There is none, or several of which none is called "audio".
    """
    datasets = _library()
    found = [
        name
        for name, feature in features.items()
        if isinstance(feature, datasets.Audio)
        or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature))
    ]
    if "audio" in found:
        return "audio"
    if len(found) != 1:
        raise AudioError(
            f"{source} has {len(found)} columns of audio among {', '.join(features)}, expected "
            "one, or one called 'audio': cast or rename it with the datasets library"
        )
    return found[0]


def id_column(features: Mapping[str, Any]) -> str | None:
    """The column of ids, if there is one, "id" before others."""
    found = [column.name for column in read_columns(features).of["id"]]
    return "id" if "id" in found else next(iter(found), None)


def id_of_row(value: object, split: str, row: int) -> str:
    """An utterance's id: the value of the id column, else the split and the row's number."""
    return f"{split}/{row:09d}" if value is None else str(value)


def _library() -> Any:
    with optional("datasets", "a data set of Hugging Face"):
        import datasets
    return datasets


def _load(datasets: Any, source: str, *, is_streaming: bool) -> Any:
    path, config = _split_config(source)
    _refuse_without_network(datasets, path)
    try:
        if is_saved_dataset(path) and config is None:
            return datasets.load_from_disk(path)
        return datasets.load_dataset(path, config, streaming=is_streaming)
    except (
        OSError,
        ValueError,
        RuntimeError,
        ImportError,
        datasets.exceptions.DatasetsError,
    ) as error:
        if isinstance(error, ImportError) or missing_module(error) is not None:
            raise missing_extra("datasets", f"the data set {source}", error) from error
        raise AudioError(
            f"cannot open the data set {source}: {error}; expected a folder, or a name of the "
            "Hugging Face hub that the datasets library can reach"
        ) from error


def _refuse_without_network(datasets: Any, path: str) -> None:
    """Raise AudioError for a set of the hub that is not in the cache where no host is resolved.

    The datasets library would try for half a minute. With a proxy only the library can tell.
    """
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    cached = Path(datasets.config.HF_DATASETS_CACHE, path.replace("/", "___"))
    is_local = os.path.isabs(path) or Path(path).exists()  # noqa: PTH117 - `path` is text
    has_proxy = getproxies().keys() & {"all", parts.scheme}
    if is_local or cached.is_dir() or has_proxy or constants.HF_HUB_OFFLINE:
        return
    try:
        socket.getaddrinfo(parts.hostname, None)
    except socket.gaierror as error:
        raise AudioError(
            f"cannot open the data set {path}: {parts.hostname} cannot be reached "
            f"({error.strerror}; is there a network?), and {datasets.config.HF_DATASETS_CACHE} "
            "does not have the set; try again with a network, or pass a folder with its files"
        ) from error


def _split_config(source: str) -> tuple[str, str | None]:
    if os.path.isabs(source):  # noqa: PTH117 - `source` is text
        if Path(source).is_dir():
            return source, None
        folder, _, config = source.rpartition("/")
        return folder, config
    parts = source.split("/")
    if len(parts) > 3:
        raise AudioError(f"{source!r} is no name of a data set, expected OWNER/NAME[/CONFIG]")
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None


def undecoded(datasets: Any, rows: Any) -> Any:
    """Rows of a data set or a stream, with the bytes and paths of audio instead of samples."""
    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Audio):
            rows = rows.cast_column(name, datasets.Audio(decode=False))
    return rows


def _list_split(rows: Any, source: str, split: str, scope: Scope) -> Listing:
    listing = Listing()
    column = audio_column(rows.features, source)
    ids = _column(rows, id_column(rows.features))
    columns = read_columns(rows.features)
    passed_over = [
        *(c.name for c in (*columns.of["start"], *columns.of["end"])),
        *columns.passed_over,
    ]
    note_passed_over(passed_over, f"{source} ({split})", "the audio of a row is taken whole")
    stated = next((c for c in columns.of["duration"] if c.unit == "seconds"), None)
    lengths = _column(rows, None if stated is None else stated.name)
    labels = _label_columns(rows) if scope.with_labels else {}
    wrong = dict(_wrong_paths(rows, column, source, scope))
    for row in range(rows.num_rows):
        member = f"{split}:{row}"
        name = id_of_row(ids[row] if ids else None, split, row)
        found: tuple[ProblemKind, str] | None = wrong.get(row)
        if found is None and (reason := id_reason(name)):
            found = ("unreadable", reason)
        if found is not None:
            listing.problems.append(
                Problem(
                    kind=found[0],
                    manifest=f"{source} ({split})",
                    line=row + 1,
                    id=name,
                    source=source,
                    reason=found[1],
                )
            )
            continue
        listing.utterances.append(
            Utterance(
                id=name,
                source=source,
                container="dataset",
                member=member,
                channel=scope.channel,
                labels={"split": split, **labels_of({k: v[row] for k, v in labels.items()})}
                if scope.with_labels
                else NO_LABELS,
            )
        )
        if stated and isinstance(lengths[row], int | float) and lengths[row] > 0:
            listing.known_seconds[name] = lengths[row] * stated.scale
    return listing


def _column(rows: Any, name: str | None) -> list[Any]:
    """A column's values; empty where there is no such column."""
    if name is None:
        return []
    values: list[Any] = rows.select_columns([name]).with_format("arrow")[:][name].to_pylist()
    return values


def _label_columns(rows: Any) -> dict[str, list[Any]]:
    """Columns of texts, numbers and names of classes."""
    datasets = _library()
    columns: dict[str, list[Any]] = {}
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Value | datasets.ClassLabel):
            columns[name] = _column(rows, name)
        if isinstance(feature, datasets.ClassLabel):
            columns[name] = [
                None if value is None or value < 0 else feature.int2str(value)
                for value in columns[name]
            ]
    return columns


def _wrong_paths(
    rows: Any, column: str, source: str, scope: Scope
) -> Iterator[tuple[int, tuple[ProblemKind, str]]]:
    """Rows without audio, or with the path of a file that is missing or outside of the root."""
    from pyarrow import compute

    root = None if scope.root is None else os.path.abspath(scope.root)  # noqa: PTH100 - keeps links
    checker = PathChecker()
    first = 0
    for batch in rows.select_columns([column]).with_format("arrow").iter(ROWS_AT_ONCE):
        for chunk in batch[column].chunks:
            is_path = compute.is_null(compute.struct_field(chunk, "bytes"))
            for row in compute.indices_nonzero(is_path).to_pylist():
                path = compute.struct_field(chunk, "path")[row].as_py()
                if not path:
                    yield first + row, ("unreadable", "the row holds no audio")
                elif found := checker.verdict(os.path.join(source, path), root):  # noqa: PTH118 - speed
                    yield first + row, found
            first += len(chunk)
