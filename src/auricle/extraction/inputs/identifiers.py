"""Ids of utterances: they become names of files, so they are looked at first."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

MAX_PART_BYTES = 240
"""File systems allow 255 bytes between slashes; a suffix still has to fit."""


def id_reason(name: str) -> str | None:
    """Why a name cannot be an id, None if it can."""
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
