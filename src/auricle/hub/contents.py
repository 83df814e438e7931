"""What is in the cache: its files by the model that they belong to, and their removal."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from auricle.catalogue import search
from auricle.errors import AuricleError, OutputError
from auricle.hub.cache import cache_folder
from auricle.hub.conversions import Conversion, conversions_folder, note_path, notes, read_note
from auricle.hub.download import cached_path, url_folder
from auricle.hub.locations import SCHEME, is_repository_url
from auricle.hub.locks import SUFFIX as LOCK_SUFFIX
from auricle.hub.locks import locked

Kind = Literal["original", "converted", "unfinished", "digest"]
"""`digest` is the note of what an original came with, which outlives it."""

NOTE_SUFFIX = ".sha256"
REPOSITORIES = "huggingface"
REPOSITORY_PREFIX = "models--"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A file of the cache, or the folder of a repository.

    Attributes:
        name: The model it belongs to, or the URL it came from; its path in the cache where
            neither is known.
        kind: What it is.
        path: Where it is.
        num_bytes: Its size.
        modified: When it was last written, in seconds since the epoch.
        note: The note that goes with it.
    """

    name: str
    kind: Kind
    path: Path
    num_bytes: int
    modified: float
    note: Path | None = None


def items() -> list[Item]:
    """All that is in the cache, by name."""
    names = {source.full_path: note.label for note in notes() for source in note.sources}
    names |= _catalogue_names()
    found = [*_converted(), *_repositories()]
    for folder in (cache_folder() / "checkpoints", *sorted((cache_folder() / "urls").glob("*"))):
        found += _originals(folder, names)
    return sorted(found, key=lambda item: (item.name, item.kind, item.path))


def items_of(name: str) -> list[Item]:
    """What the cache holds of one model: by its name, an alias, its URL or a path in the cache.

    Raises:
        UnknownModelError: There is no such model, nor anything in the cache by that name.
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
        OutputError: It cannot be removed, or another process is at work on it.
    """
    try:
        if item.path.is_dir():
            shutil.rmtree(item.path)
            return item.num_bytes
        with locked(_locked_file(item.path), 0.0):
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
    """The file whose lock protects one that belongs to it."""
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
