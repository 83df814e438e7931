"""Tables with a column of paths: CSV, TSV with a line of names, Parquet, JSON and JSON Lines."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from auricle.audio.recordings import AudioHeader
from auricle.corpus.columns import (
    PATH_NAMES,
    Column,
    Columns,
    Meaning,
    Times,
    check_columns,
    note_passed_over,
    read_claims,
    read_columns,
)
from auricle.corpus.manifests import Manifest, Row, RowError, channel_number, list_rows, open_text
from auricle.corpus.utterance import (
    NO_LABELS,
    Listing,
    Problem,
    Scope,
    labels_of,
    unreadable,
    without_suffix,
)
from auricle.errors import AudioError

UTF_16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")
"""Byte order marks of UTF-16, decoded as UTF-8."""

DELIMITERS = (",", "\t", ";", "|")

PLACEHOLDER = re.compile(r"(\$\w+|\$?\{\w+\})[/\\]+")
"""Start of paths in SpeechBrain's lists: a folder that its recipes fill in."""

CLIPS = "clips"
"""Folder beside Common Voice's lists that their paths are taken from."""

CLIENT_COLUMN = "client_id"
"""Column by which Common Voice's lists are recognised."""

EMPTY_TEXTS = frozenset({"", "nan", "na", "n/a", "<na>", "null", "none"})
"""Cells of numbers without a value, in lower case, as pandas, R and databases write them."""

Cells = Mapping[str, object]


def list_table(text: str, scope: Scope) -> Listing:
    """The utterances of a table; the meaning of a column follows from its name (`read_columns`).

    The columns, all but the path optional, are id, start, end, duration and channel; times in
    seconds unless a name states another unit. Start and duration, or start and end, or end alone,
    cut a part out of the file; a duration alone says how long the file is, which is then read
    whole. Absolute paths may lie anywhere, relative ones below the table's own folder; those of
    Common Voice's lists in `clips` there, and those that begin with a placeholder of SpeechBrain's
    in the scope's root or, without one, in the table's folder.

    Raises:
        AudioError: The table cannot be read or has no column of paths.
    """
    manifest, rows = table_rows(text, scope)
    return list_rows(rows, manifest, scope)


def table_rows(text: str, scope: Scope) -> tuple[Manifest, Iterator[Row | Problem]]:
    """A table and its rows as `list_table` reads them.

    Raises:
        AudioError: The table cannot be read or names no audio, also while rows are taken.
    """
    path = os.path.abspath(text)  # noqa: PTH100 - a link keeps its place
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    folder = os.path.dirname(path)  # noqa: PTH120 - a link keeps its place
    manifest = Manifest(path=path, folder=folder, has_absolute_paths=suffix != ".tsv")
    if suffix == ".parquet":
        rows = _parquet_rows(path, scope)
    elif suffix in (".jsonl", ".json"):
        rows = json_objects(path)
    elif suffix in (".csv", ".tsv"):
        rows = _text_rows(path, "\t" if suffix == ".tsv" else ",", scope)
    else:
        raise AudioError(f"{path} ends in {suffix!r}; a table is .tsv .csv .parquet .jsonl .json")
    return manifest, _Reader(manifest, scope).read(rows)


def has_path_column(first: str, second: str = "") -> bool:
    """True if the first lines of a TSV name columns, a path among them, not fairseq's folder."""
    names, cells = (line.rstrip("\r\n").split("\t") for line in (first, second))
    if len(names) == 1:
        is_listed = len(cells) == 2 and cells[1].isdecimal()
        return "/" not in first and not is_listed and _delimiter(first, "\t") is not None
    return not any(name.isdecimal() for name in names)


def json_objects(path: str) -> Iterator[tuple[int, dict[str, object] | Problem]]:
    """The objects of a JSON file with their lines, or their places where it is one JSON value.

    Objects stand one a line, in one array, or in one object whose keys are ids, as SpeechBrain
    writes them; each of those gets its key as `ID`. What is no object is a problem.

    Raises:
        AudioError: The file cannot be read.
    """
    try:
        with open_text(path) as file:
            first = next((text for text in file if text.strip()), "")
            file.seek(0)
            value = _json_of(file.read()) if _is_one_value(first) else None
            if isinstance(value, dict):
                entries = [value] if not _is_of_ids(value) else _entries(value)
            elif isinstance(value, list):
                entries = value
            else:
                file.seek(0)
                lines = ((n, text) for n, text in enumerate(file, start=1) if text.strip())
                yield from ((line, _json_object(text, path, line)) for line, text in lines)
                return
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from error
    for place, entry in enumerate(entries, start=1):
        reason = f"got {str(entry)[:80]!r}, expected a JSON object"
        problem = Problem(manifest=path, line=place, reason=reason)
        yield place, entry if isinstance(entry, dict) else problem


def _is_one_value(first: str) -> bool:
    """True if a file that begins with this line is to be read as one JSON value."""
    value = _json_of(first)
    return not isinstance(value, dict) or _is_of_ids(value)


def _is_of_ids(value: dict[str, object]) -> bool:
    is_of_objects = bool(value) and all(isinstance(entry, dict) for entry in value.values())
    return is_of_objects and not read_columns(value).has_path


def _entries(value: dict[str, object]) -> list[object]:
    return [{**entry, "ID": key} for key, entry in value.items() if isinstance(entry, dict)]


def _json_of(text: str) -> object:
    """Value of a text; None where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_object(text: str, path: str, line: int) -> dict[str, object] | Problem:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = f"the line is no JSON ({error}): got {text[:80].strip()!r}"
    else:
        if isinstance(value, dict):
            return value
        reason = f"got {text[:80].strip()!r}, expected a JSON object"
    return Problem(manifest=path, line=line, reason=reason)


def _text_rows(path: str, usual: str, scope: Scope) -> Iterator[tuple[int, Cells | Problem]]:
    try:
        with open_text(path) as file:
            line = next((text for text in file if text.strip()), "")
            file.seek(0)
            if line.startswith(UTF_16_MARKS):
                raise AudioError(f"{path} is UTF-16, as some spreadsheets write: save it as UTF-8")
            delimiter = _delimiter(line, usual, takes_ids=scope.takes_ids) or usual
            has_quotes = delimiter != "\t" or usual != "\t" or line.startswith('"')
            taken: list[str] = []
            reader = csv.reader(
                _remembered(file, taken),
                delimiter=delimiter,
                skipinitialspace=delimiter != "\t",
                quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE,
            )
            names = [name.strip() for name in next((cells for cells in reader if any(cells)), [])]
            check_columns(names, path, takes_ids=scope.takes_ids)
            taken.clear()
            for cells in reader:
                reason = _open_quote(taken, delimiter)
                taken.clear()
                if not cells:
                    continue
                line_num = reader.line_num
                if len(cells) == len(names) and not reason:
                    yield line_num, dict(zip(names, cells, strict=True))
                    continue
                expected = f"got {len(cells)} cells, expected {len(names)} as in the first line"
                yield line_num, Problem(manifest=path, line=line_num, reason=reason or expected)
    except (OSError, EOFError, csv.Error) as error:
        raise unreadable(path, error) from error


def _remembered(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def _open_quote(lines: Sequence[str], delimiter: str) -> str:
    """Fault of the quotes of a row of several lines; a row of one line may have any."""
    try:
        spaced = delimiter != "\t"
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=spaced, strict=True)
        list(rows if len(lines) > 1 else ())
    except csv.Error:
        return f"a quote that opens {len(lines) - 1} lines before is not closed, so these are lost"
    return ""


def _delimiter(line: str, usual: str, *, takes_ids: bool = False) -> str | None:
    """The delimiter by which a line of names names audio; the usual one comes first."""
    for delimiter in (usual, *DELIMITERS):
        with suppress(csv.Error):
            names = next(csv.reader([line.strip("\r\n")], delimiter=delimiter), [])
            if read_columns(names).names_audio(takes_ids=takes_ids):
                return delimiter
    return None


def _parquet_rows(path: str, scope: Scope) -> Iterator[tuple[int, Cells | Problem]]:
    import pyarrow as pa
    from pyarrow import parquet

    line = 0
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            columns = check_columns(schema.names, path, takes_ids=scope.takes_ids)
            for column in columns.of["path"]:
                if pa.types.is_struct(schema.field(column.name).type):
                    raise AudioError(
                        f"{path} holds audio in its column {column.name!r}, not paths: pass its "
                        f"folder as hf-dataset://{os.path.dirname(path)}"  # noqa: PTH120 - keeps links
                    )
            kept = {*columns.names, *columns.passed_over, CLIENT_COLUMN} & set(schema.names)
            for batch in file.iter_batches(columns=None if scope.with_labels else sorted(kept)):
                for cells in batch.to_pylist():
                    line += 1
                    yield line, cells
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


class _Reader:
    """Reads the rows of one table."""

    def __init__(self, manifest: Manifest, scope: Scope) -> None:
        self._manifest = manifest
        self._scope = scope
        self._root = scope.root
        self._has_clips = Path(manifest.folder, CLIPS).is_dir()

    def read(self, rows: Iterator[tuple[int, Cells | Problem]]) -> Iterator[Row | Problem]:
        """The rows, and once they are through a note of columns that were passed over."""
        passed_over: dict[str, None] = {}
        for line, cells in rows:
            if isinstance(cells, Problem):
                yield cells
                continue
            cells = _without_nesting(cells)
            columns = read_columns(cells)
            passed_over.update(dict.fromkeys(columns.passed_over))
            yield self._row(line, cells, columns)
        note_passed_over(passed_over, self._manifest.path)

    def _row(self, line: int, cells: Cells, columns: Columns) -> Row | Problem:
        source = name = ""
        try:
            paths, ids = _filled(cells, columns, "path"), _filled(cells, columns, "id")
            source = _path(paths) if paths or not (ids and self._scope.takes_ids) else ""
            name = _id(ids)
            labels = labels_of(cells) if self._scope.with_labels else NO_LABELS
            row = Row(line=line, path=source, id=name, labels=labels)
            self._place(row, is_common_voice=CLIENT_COLUMN in cells)
            if columns.half is not None:
                read, other = columns.half
                name = "end" if columns.of["start"] else "start"
                raise RowError(
                    f"the column {read!r} is understood, but {other!r} is not, which looks like "
                    f"the other end of the part: rename it to {name!r}, or leave it out"
                )
            row.channel = _channel(_filled(cells, columns, "channel"))
            times = Times(
                start=read_claims(_filled(cells, columns, "start"), "the start"),
                end=read_claims(_filled(cells, columns, "end"), "the end"),
                duration=read_claims(_filled(cells, columns, "duration"), "the duration"),
                of_file=read_claims(_filled(cells, columns, "file duration"), "the duration"),
            )
            if times.need_header:
                row.complete = lambda header: times.apply(row, _opened(header))
            else:
                times.apply(row)
        except RowError as error:
            return Problem(
                manifest=self._manifest.path, line=line, id=name, source=source, reason=str(error)
            )
        return row

    def _place(self, row: Row, *, is_common_voice: bool) -> None:
        """Take a row's path from the folder that it means."""
        if match := PLACEHOLDER.match(row.path):
            rest = row.path[match.end() :]
            row.path = rest if self._root is None else os.path.join(self._root, rest)  # noqa: PTH118 - text
        elif is_common_voice and self._has_clips and "/" not in row.path:
            row.id = row.id or without_suffix(row.path)
            row.path = f"{CLIPS}/{row.path}"
        elif row.path != (stripped := row.path.strip()):
            place = os.path.join(self._manifest.folder, row.path)  # noqa: PTH118 - text
            row.path = row.path if os.path.lexists(place) else stripped


def _opened(header: object) -> AudioHeader:
    """A header that is needed.

    Raises:
        RowError: The file cannot be read.
    """
    if isinstance(header, AudioHeader):
        return header
    raise RowError(f"its times count samples, whose rate the file must tell: {header}")


def _without_nesting(cells: Cells) -> Cells:
    """Cells in which a path that is an object has become its path, and its first and last sample.

    SpeechBrain reads to the end where `stop` is left out or equals `start`.
    """
    for name, value in cells.items():
        if not isinstance(value, Mapping) or not read_columns([name]).has_path:
            continue
        file = value.get("file") or value.get("path")
        if not isinstance(file, str) or value.get("bytes") is not None:
            continue
        start, stop = value.get("start"), value.get("stop")
        ends = {"start_sample": start, "stop_sample": None if stop == start else stop}
        return {**cells, name: file, **{key: end for key, end in ends.items() if end is not None}}
    return cells


def _filled(cells: Cells, columns: Columns, meaning: Meaning) -> list[tuple[Column, object]]:
    """The columns of a meaning that hold something; a path or an id may well be "none"."""
    empty_texts = frozenset({""}) if meaning in ("path", "id") else EMPTY_TEXTS
    pairs = ((column, cells[column.name]) for column in columns.of[meaning])
    return [(column, value) for column, value in pairs if not _is_empty(value, empty_texts)]


def _is_empty(value: object, empty_texts: frozenset[str]) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in empty_texts
    return value is None or (isinstance(value, float) and math.isnan(value))


def _path(found: list[tuple[Column, object]]) -> str:
    """The path of a row; of several that are parts of one another, the longest."""
    texts = [value for _, value in found if isinstance(value, str)]
    if len(texts) < len(found) or not texts:
        got = next((value for _, value in found if not isinstance(value, str)), None)
        raise RowError(f"the path is {got!r}, expected text in one of {', '.join(PATH_NAMES)}")
    longest = max(texts, key=len)
    if not all(f"/{longest}".endswith(f"/{text.removeprefix('./')}") for text in texts):
        raise _disagreeing(found, "the path")
    return longest


def _id(found: list[tuple[Column, object]]) -> str:
    names = set()
    for _, value in found:
        if isinstance(value, float) and value.is_integer():  # a column of integers with gaps
            names.add(str(int(value)))
        elif isinstance(value, bool) or not isinstance(value, str | int):
            raise RowError(f"the id is {value!r}, expected text")
        else:
            names.add(str(value).strip())
    if len(names) > 1:
        raise _disagreeing(found, "the id")
    return names.pop() if names else ""


def _channel(found: list[tuple[Column, object]]) -> int | None:
    channels = {channel_number(value) for _, value in found} - {None}
    if len(channels) > 1:
        raise _disagreeing(found, "the channel")
    return channels.pop() if channels else None


def _disagreeing(found: list[tuple[Column, object]], what: str) -> RowError:
    claims = " and ".join(f"{column.name} {value!r}" for column, value in found)
    return RowError(f"{claims} both name {what} and disagree: leave one of these columns out")
