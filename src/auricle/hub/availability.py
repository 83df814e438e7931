"""Where the weights of a model of the catalogue are at this moment; asks no network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path

from auricle.catalogue.record import Record
from auricle.hub.cache import cache_folder
from auricle.hub.download import cached_path
from auricle.hub.embedded import embedded_path
from auricle.hub.locations import SCHEME, parse_repository_url
from auricle.hub.repositories import CONFIG_FILE, WEIGHT_FILES


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
    """Size of the weights' file: of the embedded one, or the one on record or stated by somebody.

    None where it is not known.
    """
    if record.embedded:
        path = embedded_path(record)
        return path.stat().st_size if path.is_file() else None
    if record.num_bytes is not None or not record.urls:
        return record.num_bytes
    weights = [f"{record.urls[0]}/{name}" for name in WEIGHT_FILES]
    sizes = [one.num_bytes for one in record.stated if one.place in weights]
    return sizes[0] if sizes else None


def is_converted(record: Record) -> bool:
    """Return True if the library's own copy is cached, which does without the original."""
    return record.name in _converted_names()


def _converted_names() -> frozenset[str]:
    """Labels of all cached conversions that this version reads."""
    from auricle.hub.conversions import CONVERTER_VERSION, notes

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
    """Whether a repository is where Hugging Face's client keeps it; the client imports slowly."""
    repository = parse_repository_url(url).repository.replace("/", "--")
    snapshots = cache_folder() / "huggingface" / f"models--{repository}" / "snapshots"
    return any(map(_is_model, snapshots.glob("*")))


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() and any(
        (folder / name).is_file() for name in WEIGHT_FILES
    )
