"""Contents of the cache, by model: list, remove, and verify them by their digests."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from auricle.catalogue import search
from auricle.catalogue.record import Record
from auricle.errors import AuricleError, OutputError
from auricle.files.atomic import LOCK_SUFFIX, READ_BYTES, SHA256_DIGITS, file_sha256, pinned_sha256
from auricle.hub.cache import (
    ORIGINALS,
    REPOSITORIES,
    URLS,
    Conversion,
    cache_folder,
    cached_path,
    conversions_folder,
    embedded_path,
    is_as_stamped,
    locked_in_cache,
    note_path,
    notes,
    read_note,
    url_folder,
)
from auricle.hub.location import SCHEME, is_repository_url

Kind = Literal["original", "converted", "unfinished", "digest"]
"""Kind of an item; `digest` is the note of an original's sha256, which outlives the original."""

NOTE_SUFFIX = ".sha256"
REPOSITORY_PREFIX = "models--"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A file of the cache, or the folder of a repository.

    Attributes:
        name: The model it belongs to, or the URL it came from; its path in the cache where
            neither is known.
        kind: An original file, a conversion, a partial or temporary file, or the note of a digest.
        path: The file or the folder.
        num_bytes: Its size.
        modified: Time of its last modification, in seconds since the epoch.
        note: The note of a conversion.
    """

    name: str
    kind: Kind
    path: Path
    num_bytes: int
    modified: float
    note: Path | None = None


def items() -> list[Item]:
    """List all items of the cache, by name."""
    names = {source.full_path: note.label for note in notes() for source in note.sources}
    names |= _catalogue_names()
    found = [*_converted(), *_repositories()]
    for folder in (cache_folder() / ORIGINALS, *sorted((cache_folder() / URLS).glob("*"))):
        found += _originals(folder, names)
    return sorted(found, key=lambda item: (item.name, item.kind, item.path))


def items_of(name: str) -> list[Item]:
    """List the items of one model: by its name, an alias, its URL or a path in the cache.

    Raises:
        UnknownModelError: Neither the catalogue nor the cache has that name.
    """
    everything = items()
    # Without its conversion nothing but the folder tells which URL a file, or a digest, is of.
    folder = url_folder(name)
    found = [
        item
        for item in everything
        if name in (item.name, _relative(item.path)) or item.path.parent == folder
    ]
    if found or is_repository_url(name) or "/" in name:
        return found
    record = search.find(name)
    return [item for item in everything if item.name == record.name]


def remove(item: Item) -> int:
    """Remove an item and give the bytes that this frees; locks stay.

    Raises:
        OutputError: It cannot be removed, or another process is using it.
    """
    try:
        if item.path.is_dir():
            shutil.rmtree(item.path)
            return item.num_bytes
        with locked_in_cache(_locked_file(item.path), 0.0):
            if item.kind == "converted" and item.note is not None:
                item.note.unlink(missing_ok=True)  # first: a note without its file is harmless
            item.path.unlink(missing_ok=True)
    except AuricleError as error:
        raise OutputError(f"{item.path} is in use, so it was left: {error}") from error
    except OSError as error:
        raise OutputError(
            f"cannot remove {item.path}: {error.strerror or error}; its owner can"
        ) from error
    return item.num_bytes


def _locked_file(path: Path) -> Path:
    """The file whose lock protects `path`: a partial file or a note has no lock of its own."""
    name = path.name
    if path.parent == conversions_folder():
        return path.with_name(f"{name.lstrip('.').partition('.')[0]}.safetensors")
    for suffix in (".json", ".part", NOTE_SUFFIX):
        name = name.removesuffix(suffix)
    return path.with_name(name)


def _catalogue_names() -> dict[Path, str]:
    names = {}
    for record in search.select()[0]:
        if any(not is_repository_url(url) for url in record.urls):
            path = cached_path(record)
            names[path] = record.name
            if record.config_url is not None:
                names[path.with_suffix(".cfg")] = record.name
    return names


def _originals(folder: Path, names: dict[Path, str]) -> Iterator[Item]:
    for path in _files(folder):
        whole = path.with_name(path.name.removesuffix(".json").removesuffix(".part"))
        whole = whole if path.name.endswith((".part", ".part.json")) else path
        kind: Kind = "original" if whole == path else "unfinished"
        if path.suffix == NOTE_SUFFIX:
            whole = path.with_suffix("")
            kind = "digest"
        yield _item(names.get(whole, _relative(whole)), kind, path)


def _converted() -> Iterator[Item]:
    folder = conversions_folder()
    whole: dict[Path, Conversion] = {}
    for path in _files(folder):
        conversion = read_note(note_path(path)) if path.suffix == ".safetensors" else None
        if conversion is not None:
            whole[path] = conversion
    used = {note_path(path) for path in whole}
    for path in _files(folder, hidden=True):
        if path in whole:
            yield _item(whole[path].label, "converted", path, note_path(path))
        elif path not in used:
            yield _item(_relative(path), "unfinished", path)


def _repositories() -> Iterator[Item]:
    repositories = {
        url: record.name
        for record in search.select()[0]
        for url in record.urls
        if is_repository_url(url)
    }
    for folder in sorted((cache_folder() / REPOSITORIES).glob(f"{REPOSITORY_PREFIX}*")):
        url = SCHEME + folder.name.removeprefix(REPOSITORY_PREFIX).replace("--", "/", 1)
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        yield Item(
            name=repositories.get(url, url),
            kind="original",
            path=folder,
            num_bytes=sum(path.stat().st_size for path in files),
            modified=max((path.stat().st_mtime for path in files), default=0.0),
        )


def _item(name: str, kind: Kind, path: Path, note: Path | None = None) -> Item:
    status = path.stat()
    return Item(
        name=name,
        kind=kind,
        path=path,
        num_bytes=status.st_size,
        modified=status.st_mtime,
        note=note,
    )


def _files(folder: Path, *, hidden: bool = False) -> list[Path]:
    """Files of a folder, locks left out; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and not path.name.endswith(LOCK_SUFFIX)
        and (hidden or not path.name.startswith("."))
    )


def _relative(path: Path) -> str:
    return path.relative_to(cache_folder()).as_posix()


State = Literal["whole", "changed", "unknown"]

GIT_DIGITS = 40
"""Hex digits of the name that git gives to a file's content, a sha1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of verifying one file.

    Attributes:
        name: The model it belongs to.
        path: The file.
        state: `whole` where the digest is as expected, `unknown` where none is on record.
        reason: The deviation, empty where there is none.
        remedy: The command that repairs it.
    """

    name: str
    path: Path
    state: State
    reason: str = ""
    remedy: str = ""


def verify(names: Sequence[str] = ()) -> Iterator[Finding]:
    """Verify cached and bundled files, of some models or of all: read them, compare digests.

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
            yield _verify_embedded(record)
    noted = _noted_digests()
    for item in chosen:
        if item.kind == "converted":
            yield _verify_conversion(item)
        elif item.path.is_dir():
            yield from _verify_repository(item, noted)
        elif item.kind == "original":
            yield _verify_original(item, noted)


def _noted_digests() -> dict[Path, str]:
    """Digests of the files that conversions were made of, where these have not been written since.

    A newer file in the place of an old one may be as sound: its digest is not known.
    """
    return {
        source.full_path.resolve(): source.sha256
        for conversion in notes()
        for source in conversion.sources
        if is_as_stamped(source)
    }


def _records(name: str) -> list[Record]:
    return [record for record in search.select()[0] if name in record.names]


def _verify_embedded(record: Record) -> Finding:
    return _compared(
        record.name,
        embedded_path(record),
        (record.sha256 or "",),
        f"install {record.package} again",
    )


def _verify_original(item: Item, noted: Mapping[Path, str]) -> Finding:
    pinned = pinned_sha256(item.path)
    expected = [] if pinned is None else [pinned]
    for record in _records(item.name):
        if item.path.suffix != ".cfg":
            expected += [digest for digest in (record.sha256, record.sha256_prefix) if digest]
    if not expected and item.path.resolve() in noted:
        expected = [noted[item.path.resolve()]]
    return _compared(item.name, item.path, expected, _removal(item, "original"))


def _verify_conversion(item: Item) -> Finding:
    conversion = read_note(note_path(item.path))
    expected = [conversion.file.sha256] if conversion else []
    return _compared(item.name, item.path, expected, _removal(item, "converted"))


def _removal(item: Item, kind: Literal["original", "converted"]) -> str:
    """The command that repairs a changed file: a missing one is made again when needed."""
    option, way = ("--originals", "downloads it") if kind == "original" else (
        "--converted", "converts it"
    )  # fmt: skip
    return f"`auricle cache remove {shlex.quote(item.name)} {option}`; what needs it {way} again"


def _verify_repository(item: Item, noted: Mapping[Path, str]) -> Iterator[Finding]:
    """Compare files of a repository, which are kept under their digests."""
    remedy = _removal(item, "original")
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
    """A path for messages: relative to the cache if it lies there."""
    folder = cache_folder()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
