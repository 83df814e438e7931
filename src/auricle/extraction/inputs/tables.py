"""Tables with a column of paths: TSV with a line of names, CSV, Parquet, JSON Lines (NeMo's)."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from auricle.errors import AudioError
from auricle.extraction.inputs.records import Listing, Problem, Scope, unreadable
from auricle.extraction.inputs.rows import (
    Manifest,
    Row,
    RowError,
    channel_number,
    list_rows,
    number,
    positive,
)

PATH_COLUMNS = ("path", "audio_filepath", "audio_path", "audio", "wav", "file")
ID_COLUMNS = ("id", "utt_id", "utterance_id")
START_COLUMNS = ("start", "offset")
SECONDS_COLUMNS = ("duration", "seconds")
END_COLUMN = "end"
CHANNEL_COLUMN = "channel"

READ_COLUMNS = (
    *PATH_COLUMNS,
    *ID_COLUMNS,
    *START_COLUMNS,
    *SECONDS_COLUMNS,
    END_COLUMN,
    CHANNEL_COLUMN,
)

Cells = Mapping[str, object]


def list_table(text: str, scope: Scope) -> Listing:
    """The utterances of a table; of names for a column, the first in the lists above counts.

    The columns, all but the path optional, are id, start (or offset), duration (or seconds), end
    and channel; times in seconds. Start and duration, or start and end, or end alone, cut a stretch
    out of the file; a duration alone says how long the file is, which is then read whole. Absolute
    paths may lie anywhere, relative ones below the table's own folder.

    Raises:
        AudioError: The table cannot be read or has no column of paths.
    """
    path = os.path.abspath(text)  # noqa: PTH100 - a link keeps its place
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    folder = os.path.dirname(path)  # noqa: PTH120 - a link keeps its place
    manifest = Manifest(path=path, folder=folder, has_absolute_paths=suffix != ".tsv")
    if suffix == ".parquet":
        rows = _parquet_rows(path)
    elif suffix in (".jsonl", ".json"):
        rows = _json_rows(path)
    elif suffix in (".csv", ".tsv"):
        rows = _text_rows(path, "\t" if suffix == ".tsv" else ",")
    else:
        raise AudioError(f"{path} ends in {suffix!r}; a table is .tsv .csv .parquet .jsonl .json")
    return list_rows(rows, manifest, scope)


def has_path_column(line: str) -> bool:
    """Does the first line of a TSV name columns, a path among them?"""
    return bool(set(line.rstrip("\r\n").split("\t")) & set(PATH_COLUMNS))


def open_text(path: str) -> TextIO:
    """A text file, unpacked where its name ends in .gz.

    Raises:
        OSError: It cannot be opened.
    """
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape")
    return Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def json_objects(path: str) -> Iterator[tuple[int, dict[str, object] | Problem]]:
    """The objects of a JSON Lines file with their lines; a line that is none is a problem.

    Raises:
        AudioError: The file cannot be read, or is one large array.
    """
    try:
        with open_text(path) as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                if line == 1 and text.lstrip().startswith("["):
                    raise AudioError(f"{path} is a JSON array, expected one object a line (JSONL)")
                yield line, _json_object(text, path, line)
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from error


def _json_object(text: str, path: str, line: int) -> dict[str, object] | Problem:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = f"the line is no JSON ({error}): got {text[:80].strip()!r}"
    else:
        if isinstance(value, dict):
            return value
        reason = f"got {text[:80].strip()!r}, expected a JSON object"
    return Problem(kind="unreadable", manifest=path, line=line, reason=reason)


def _json_rows(path: str) -> Iterator[Row | Problem]:
    for line, cells in json_objects(path):
        yield cells if isinstance(cells, Problem) else _row(line, cells, path)


def _text_rows(path: str, delimiter: str) -> Iterator[Row | Problem]:
    try:
        with open_text(path) as file:
            if delimiter == "\t":
                reader = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
            else:
                reader = csv.reader(file, delimiter=delimiter)
            names = next(reader, [])
            _check_columns(names, path)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(names):
                    reason = f"got {len(cells)} cells, expected {len(names)} as in the first line"
                    yield Problem(
                        kind="unreadable", manifest=path, line=reader.line_num, reason=reason
                    )
                    continue
                yield _row(reader.line_num, dict(zip(names, cells, strict=True)), path)
    except (OSError, EOFError, csv.Error) as error:
        raise unreadable(path, error) from error


def _parquet_rows(path: str) -> Iterator[Row | Problem]:
    import pyarrow as pa
    from pyarrow import parquet

    line = 0
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_columns(schema.names, path)
            columns = [name for name in schema.names if name in READ_COLUMNS]
            audio = next(name for name in PATH_COLUMNS if name in columns)
            if pa.types.is_struct(schema.field(audio).type):
                raise AudioError(
                    f"{path} holds audio in its column {audio!r}, not paths: pass its folder as "
                    f"hf-dataset://{os.path.dirname(path)}"  # noqa: PTH120 - a link keeps its place
                )
            for batch in file.iter_batches(columns=columns):
                for cells in batch.to_pylist():
                    line += 1
                    yield _row(line, cells, path)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def _check_columns(names: list[str], path: str) -> None:
    if not set(names) & set(PATH_COLUMNS):
        raise AudioError(
            f"{path} has the columns {', '.join(names) or '(none)'}; expected one of "
            f"{', '.join(PATH_COLUMNS)} for the paths"
        )


def _row(line: int, cells: Cells, path: str) -> Row | Problem:
    source = _first(cells, PATH_COLUMNS)
    name = _first(cells, ID_COLUMNS)
    try:
        if not isinstance(source, str):
            raise RowError(
                f"the path is {source!r}, expected text in one of {', '.join(PATH_COLUMNS)}"
            )
        if isinstance(name, bool) or not isinstance(name, str | int | None):
            raise RowError(f"the id is {name!r}, expected text")
        start = number(_first(cells, START_COLUMNS), "the start")
        seconds = positive(_first(cells, SECONDS_COLUMNS), "the duration")
        end = positive(_first(cells, (END_COLUMN,)), "the end")
        if end is not None:
            start = start or 0.0
            if end <= start:
                raise RowError(f"the end, {end:g} s, is not after the start, {start:g} s")
            seconds = end - start if seconds is None else seconds
        channel = channel_number(_first(cells, (CHANNEL_COLUMN,)))
    except RowError as error:
        return Problem(
            kind="unreadable",
            manifest=path,
            line=line,
            id=name if isinstance(name, str) else "",
            source=source if isinstance(source, str) else "",
            reason=str(error),
        )
    is_part = start is not None
    return Row(
        line=line,
        path=source,
        id="" if name is None else str(name),
        start=start,
        seconds=seconds if is_part else None,
        channel=channel,
        known_seconds=None if is_part else seconds,
    )


def _first(cells: Cells, names: tuple[str, ...]) -> object:
    """The value of the first of these columns that is there and not empty."""
    for name in names:
        value = cells.get(name)
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        return value
    return None
