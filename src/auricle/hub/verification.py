"""Whether what is in the cache, and in the package, is still what came: every byte is read."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from auricle.catalogue import search
from auricle.catalogue.record import Record
from auricle.hub.cache import cache_folder
from auricle.hub.contents import Item, items, items_of
from auricle.hub.conversions import note_path, notes, read_note
from auricle.hub.digests import READ_BYTES, SHA256_DIGITS, file_sha256, pinned_sha256
from auricle.hub.embedded import embedded_path

State = Literal["whole", "changed", "unknown"]

GIT_DIGITS = 40
"""Hex digits of the name that git gives to a file's content, a sha1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found out about one file.

    Attributes:
        name: The model it belongs to.
        path: Where it is.
        state: Whether it has the digest it should have; unknown where none is noted.
        reason: What is wrong, empty where nothing is.
        remedy: What mends it.
    """

    name: str
    path: Path
    state: State
    reason: str = ""
    remedy: str = ""


def verify(names: Sequence[str] = ()) -> Iterator[Finding]:
    """Read what is cached or embedded, of some models or of all, and compare digests.

    Args:
        names: Names of the catalogue, aliases, or URLs; empty for all there is.

    Raises:
        UnknownModelError: There is no such model.
    """
    if names:
        records = [record for name in names for record in _records(name)]
        chosen = [item for name in names for item in items_of(name)]
    else:
        records, chosen = search.select()[0], items()
    for record in records:
        if record.embedded:
            yield _embedded(record)
    for item in chosen:
        if item.kind == "converted":
            yield _converted(item)
        elif item.path.is_dir():
            yield from _repository(item)
        elif item.kind == "original":
            yield _original(item)


def _records(name: str) -> list[Record]:
    return [record for record in search.select()[0] if name in record.names]


def _embedded(record: Record) -> Finding:
    return _compared(
        record.name,
        embedded_path(record),
        (record.sha256 or "",),
        f"install {record.package} again",
    )


def _original(item: Item) -> Finding:
    pinned = pinned_sha256(item.path)
    expected = [] if pinned is None else [pinned]
    for record in _records(item.name):
        if item.path.suffix != ".cfg":
            expected += [digest for digest in (record.sha256, record.sha256_prefix) if digest]
    if not expected:
        expected += [
            source.sha256
            for conversion in notes()
            for source in conversion.sources
            if source.full_path == item.path
        ]
    return _compared(
        item.name,
        item.path,
        expected,
        _removal(item, "original"),
    )


def _converted(item: Item) -> Finding:
    conversion = read_note(note_path(item.path))
    return _compared(
        item.name,
        item.path,
        [conversion.file.sha256] if conversion else [],
        _removal(item, "converted"),
    )


def _removal(item: Item, kind: Literal["original", "converted"]) -> str:
    """The command that mends what has changed: what is not there is made anew when needed."""
    option, way = ("--originals", "downloads it") if kind == "original" else (
        "--converted", "converts it"
    )  # fmt: skip
    return f"`auricle cache remove {shlex.quote(item.name)} {option}`; what needs it {way} again"


def _repository(item: Item) -> Iterator[Finding]:
    """Files of a repository are kept under the digest that the hub gave."""
    remedy = _removal(item, "original")
    noted = {
        source.full_path.resolve(): source.sha256
        for conversion in notes()
        for source in conversion.sources
    }
    for path in sorted(path for path in item.path.rglob("*") if path.is_file()):
        if path.is_symlink() or path.parent.name in ("refs", ".no_exist"):
            continue
        name = path.name
        if re.fullmatch(rf"[0-9a-f]{{{GIT_DIGITS}}}", name) and path.parent.name == "blobs":
            yield _git_blob(item.name, path, remedy)
        elif re.fullmatch(rf"[0-9a-f]{{{SHA256_DIGITS}}}", name):
            yield _compared(item.name, path, [name], remedy)
        elif path.resolve() in noted:
            yield _compared(item.name, path, [noted[path.resolve()]], remedy)


def _git_blob(name: str, path: Path, remedy: str) -> Finding:
    try:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
    except OSError as error:
        return _unreadable(name, path, error, remedy)
    if digest.hexdigest() == path.name:
        return Finding(name=name, path=path, state="whole")
    reason = f"git calls its content {digest.hexdigest()}, expected {path.name}"
    return Finding(name=name, path=path, state="changed", reason=reason, remedy=remedy)


def _compared(name: str, path: Path, expected: Sequence[str], remedy: str) -> Finding:
    try:
        digest = file_sha256(path)
    except OSError as error:
        return _unreadable(name, path, error, remedy)
    if not expected:
        reason = f"no digest is known of it; it is {digest}"
        return Finding(name=name, path=path, state="unknown", reason=reason)
    for wanted in expected:
        if not wanted or not digest.startswith(wanted):
            reason = f"its sha256 is {digest}, expected {wanted}"
            return Finding(name=name, path=path, state="changed", reason=reason, remedy=remedy)
    return Finding(name=name, path=path, state="whole")


def _unreadable(name: str, path: Path, error: OSError, remedy: str) -> Finding:
    reason = f"it cannot be read: {error.strerror or error}"
    return Finding(name=name, path=path, state="changed", reason=reason, remedy=remedy)


def shown(path: Path) -> str:
    """A path as messages show it: relative to the cache where it lies there."""
    folder = cache_folder()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
