"""Where the weights of a model of the catalogue are at this moment; asks no network."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from auricle.catalogue.record import Record
from auricle.hub.cache import cache_folder
from auricle.hub.download import cached_path
from auricle.hub.embedded import embedded_path
from auricle.hub.locations import parse_repository_url
from auricle.hub.repositories import CONFIG_FILE, SCHEME, WEIGHT_FILES


class Availability(Enum):
    """Where weights are, in the words that users read."""

    NOT_NEEDED = "-"
    EMBEDDED = "embedded"
    CACHED = "cached"
    DOWNLOAD = "download"
    NEVER_PUBLISHED = "never published"

    @property
    def works_offline(self) -> bool:
        """Whether the model loads without a network."""
        return self in (self.NOT_NEEDED, self.EMBEDDED, self.CACHED)


def availability(record: Record, *, look_into_cache: bool = True) -> Availability:
    """Where the weights of a record are.

    Args:
        record: Of which model.
        look_into_cache: Whether to tell what is in the cache from what is yet to be downloaded.
    """
    if record.family == "baseline":
        return Availability.NOT_NEEDED
    if record.embedded:
        return Availability.EMBEDDED
    if not record.urls:
        return Availability.NEVER_PUBLISHED
    if look_into_cache and _is_cached(record):
        return Availability.CACHED
    return Availability.DOWNLOAD


def known_num_bytes(record: Record) -> int | None:
    """Size of the weights' file: of the embedded one, or the one on record; None if not known."""
    if record.embedded:
        path = embedded_path(record)
        return path.stat().st_size if path.is_file() else None
    return record.num_bytes


def _is_cached(record: Record) -> bool:
    if is_converted(record):
        return True
    path = cached_path(record)
    has_files = any(not url.startswith(SCHEME) for url in record.urls)
    if has_files and path.is_file():
        return record.config_url is None or path.with_suffix(".cfg").is_file()
    return any(_is_repository_cached(url) for url in record.urls if url.startswith(SCHEME))


def is_converted(record: Record) -> bool:
    """Whether the library's own copy is kept, which does without the original."""
    from auricle.hub.conversions import CONVERTER_VERSION, notes

    return any(
        note.label == record.name
        and note.converter_version == CONVERTER_VERSION
        and note.file.full_path.is_file()
        for note in notes()
    )


def _is_repository_cached(url: str) -> bool:
    """Whether a repository is where Hugging Face's client keeps it; the client imports slowly."""
    repository = parse_repository_url(url).repository.replace("/", "--")
    snapshots = cache_folder() / "huggingface" / f"models--{repository}" / "snapshots"
    return any(map(_is_model, snapshots.glob("*")))


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() and any(
        (folder / name).is_file() for name in WEIGHT_FILES
    )
