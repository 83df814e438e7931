"""Locations of checkpoints: URLs, `hf://` repositories, paths; availability in the cache.

Nothing here uses the network.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from auricle.catalogue.record import Record
from auricle.catalogue.search import is_name, plug_in_names
from auricle.errors import DownloadError
from auricle.hub.cache import (
    CONVERTER_VERSION,
    REPOSITORIES,
    cache_folder,
    cached_path,
    embedded_path,
    notes,
)

CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
"""Suffixes of files that are checkpoints and no names of models."""

SCHEME = "hf://"
SLASH_IN_REVISION = "%2F"

CONFIG_FILE = "config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of a repository's weights in order of preference; the first that it has is fetched."""

_LOCATION = re.compile(r"(?:[a-z][a-z0-9+.-]*://|file:)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepositoryUrl:
    """The parts of a URL `hf://owner/name[@revision][/file]`.

    `repository` is `owner/name`, `revision` a branch, tag or commit, None for the main branch,
    and `file` a file's path inside the repository, None where none is named.
    """

    repository: str
    revision: str | None = None
    file: str | None = None


def is_location(value: object) -> bool:
    """True for a URL, False for a name of the catalogue or a path."""
    return isinstance(value, str) and _LOCATION.match(value) is not None


def is_repository_url(url: str) -> bool:
    """True for a URL `hf://...`."""
    return url.lower().startswith(SCHEME)


def parse_repository_url(url: str) -> RepositoryUrl:
    """Parse `hf://owner/name[@revision][/file]`.

    A slash in the revision is written `%2F` (`refs%2Fpr%2F1`); other characters may be escaped too.

    Raises:
        DownloadError: It is malformed, or a part of it would lead out of the repository.
    """
    owner, _, rest = url[len(SCHEME) :].partition("/")
    head, has_file, tail = rest.partition("/")
    name, has_revision, revision = head.partition("@")
    for part in (owner, name):
        if not _NAME.fullmatch(part) or ".." in part:
            raise _malformed(url, f"{part!r} is no name of an owner or a repository")
    parts = [unquote(part) for part in tail.split("/")] if has_file else []
    branches = unquote(revision).split("/") if has_revision else []
    for part in (*parts, *branches):
        if part in ("", ".", "..") or set(part) & set("/\\\0"):
            raise _malformed(url, f"{part!r} is no part of a file's or a revision's name")
    return RepositoryUrl(
        repository=f"{owner}/{name}",
        revision="/".join(branches) or None,
        file="/".join(parts) or None,
    )


def _malformed(url: str, problem: str) -> DownloadError:
    return DownloadError(
        f"{url!r} cannot be fetched: {problem}; expected {SCHEME}owner/name[@revision][/file], "
        f"with {SLASH_IN_REVISION} for a slash in the revision"
    )


def looks_like_path(value: str | Path) -> bool:
    """True for a path of a checkpoint, False for a name of the catalogue or a URL.

    A name of the catalogue takes precedence over a file or folder of that name in the current
    folder (write `./tera` for the folder). A value with a separator or with the suffix of a
    checkpoint is a path even if nothing exists there, so that a mistyped path is reported as one.
    """
    if isinstance(value, Path):
        return True
    if is_name(value) or is_location(value):
        return False
    separators = {"/", os.sep, os.altsep or os.sep}
    if any(separator in value for separator in separators):
        return True
    if value.lower().endswith(CHECKPOINT_SUFFIXES):
        return True
    return _exists(value) and value not in plug_in_names()


def _exists(value: str) -> bool:
    try:
        return value != "" and Path(value).exists()
    except (OSError, ValueError):  # too long, or with a null character: no path, then
        return False


def repository_page(url: str) -> str:
    """The web page of the files of a repository `hf://owner/name[@revision]`."""
    wanted = parse_repository_url(url)
    revision = f"/tree/{wanted.revision}" if wanted.revision else ""
    return f"https://huggingface.co/{wanted.repository}{revision}"


def without_password(url: str) -> str:
    """Remove user and password from a URL that is written to files which others read."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class Availability(Enum):
    """Location of weights, in the words of `auricle list`."""

    NOT_NEEDED = "-"
    EMBEDDED = "bundled"
    CACHED = "cached"
    DOWNLOAD = "download"
    NEVER_PUBLISHED = "never published"

    @property
    def works_offline(self) -> bool:
        """True if the model loads without a network."""
        return self in (self.NOT_NEEDED, self.EMBEDDED, self.CACHED)


def availability(record: Record, *, look_into_cache: bool = True) -> Availability:
    """Locate the weights of one record; `availabilities` is for several."""
    (state,) = availabilities([record], look_into_cache=look_into_cache)
    return state


def availabilities(
    records: Iterable[Record], *, look_into_cache: bool = True
) -> list[Availability]:
    """Locate the weights of each record, in order; each note of the cache is read at most once.

    Args:
        records: The models.
        look_into_cache: False reports cached weights as a download, the same on every machine.
    """
    # Read for the first record that needs them: a table of baselines reads none.
    converted = functools.cache(_converted_names) if look_into_cache else None
    return [_locate(record, converted) for record in records]


def _locate(record: Record, converted: Callable[[], frozenset[str]] | None) -> Availability:
    if record.family == "baseline":
        return Availability.NOT_NEEDED
    if record.embedded:
        return Availability.EMBEDDED
    if not record.urls:
        return Availability.NEVER_PUBLISHED
    if converted is not None and (record.name in converted() or _is_original_cached(record)):
        return Availability.CACHED
    return Availability.DOWNLOAD


def known_num_bytes(record: Record) -> int | None:
    """Size of the weights' file in bytes: embedded, on record, or stated; None if unknown."""
    if record.embedded:
        path = embedded_path(record)
        return path.stat().st_size if path.is_file() else None
    if record.num_bytes is not None or not record.urls:
        return record.num_bytes
    weights = [f"{record.urls[0]}/{name}" for name in WEIGHT_FILES]
    sizes = [one.num_bytes for one in record.stated if one.place in weights]
    return sizes[0] if sizes else None


def is_converted(record: Record) -> bool:
    """True if the cache has a conversion, for which the original is not needed."""
    return record.name in _converted_names()


def _converted_names() -> frozenset[str]:
    """Labels of the cached conversions that this version reads."""
    return frozenset(
        note.label
        for note in notes()
        if note.converter_version == CONVERTER_VERSION and note.file.full_path.is_file()
    )


def _is_original_cached(record: Record) -> bool:
    path = cached_path(record)
    has_files = any(not url.startswith(SCHEME) for url in record.urls)
    if has_files and path.is_file():
        return record.config_url is None or path.with_suffix(".cfg").is_file()
    return any(_is_repository_cached(url) for url in record.urls if url.startswith(SCHEME))


def _is_repository_cached(url: str) -> bool:
    """True if Hugging Face's client has cached a repository; the client itself imports slowly."""
    repository = parse_repository_url(url).repository.replace("/", "--")
    snapshots = cache_folder() / REPOSITORIES / f"models--{repository}" / "snapshots"
    return any(map(_is_model, snapshots.glob("*")))


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() and any(
        (folder / name).is_file() for name in WEIGHT_FILES
    )
