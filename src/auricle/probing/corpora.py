"""The tables that describe a probing corpus: tab-separated, the first line names the columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from auricle.errors import AuricleError

Row = dict[str, str]


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a table, each with at least `columns`, whose case and blanks do not count.

    Raises:
        AuricleError: The table is missing or unreadable, has no rows, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = list(reader)
    except OSError as error:
        raise AuricleError(
            f"cannot open {path}: {error.strerror}; pass the folder of the corpus as --data"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise AuricleError(f"{path} is no table: {error}; expected tab-separated UTF-8") from error
    missing = [column for column in columns if column not in header]
    if missing:
        raise AuricleError(
            f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(header)}"
        )
    if not rows:
        raise AuricleError(f"{path} has no rows below its header")
    for number, row in enumerate(rows, start=2):
        if any(not row[column] for column in columns):
            raise AuricleError(f"{path}, line {number}: expected a value in {', '.join(columns)}")
    return rows


def find_table(folder: Path, name: str, corpus: str) -> Path:
    """Table `name` in `folder`, or in its subfolder `corpus` where it is not there."""
    inner = folder / corpus / name
    return inner if inner.is_file() and not (folder / name).is_file() else folder / name


def existing_audio(table: Path, names: Sequence[str]) -> list[Path]:
    """Paths of the files that a table names, which lie below its own folder.

    Raises:
        AuricleError: Some are missing.
    """
    paths = [table.parent / name for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise AuricleError(
            f"{len(missing)} of the {len(paths)} files that {table} names are missing, the first "
            f"of them {missing[0]}"
        )
    return paths
