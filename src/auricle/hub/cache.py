"""The cache of weights: its folders, its locks, and the validity metadata of conversions.

A conversion is a checkpoint in the library's own format, `<cache>/converted/<stem>.safetensors`.
The note beside it, `<stem>.json`, holds size, time and digest of the conversion and of the files
that it was made of. Without a valid note a conversion is never read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import msgspec

from auricle.catalogue.record import Record
from auricle.errors import AuricleError, ChecksumError, DownloadError, OutputError
from auricle.files.atomic import file_sha256, lock_path, locked, pinned_sha256, write_whole

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "AURICLE_CACHE"
OFFLINE_VARIABLES = ("AURICLE_OFFLINE", "HF_HUB_OFFLINE")

ORIGINALS = "checkpoints"
"""Folder of the files that names of the catalogue stand for."""
URLS = "urls"
"""Folder of the files of other URLs, each in a folder of its own."""
REPOSITORIES = "huggingface"
"""Folder that Hugging Face's own client keeps."""
CONVERTED = "converted"
"""Folder of conversions and their notes."""
PRETRAINED = "pretrained"
"""Folder of embedded weights in the package that brings them."""

CONVERTER_VERSION = 2
"""Version of the converters: raised when one gives other weights, or another configuration, for the
same file, after which conversions of earlier versions are not read any more."""

URL_DIGITS = 16
"""Hex digits of a URL's digest that keep its file apart from those of other URLs."""
STEM_DIGITS = 16
"""Hex digits that keep conversions apart: of other files, families or configurations."""
MAX_LABEL_LENGTH = 40

_YES = frozenset({"1", "true", "yes", "on"})


def cache_folder() -> Path:
    """The folder for downloaded files: `AURICLE_CACHE`, else the user's cache folder.

    The folder need not exist yet.

    Raises:
        AuricleError: `AURICLE_CACHE` names a file.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        folder = Path(chosen).expanduser().absolute()
        if folder.is_file():
            raise AuricleError(f"{CACHE_VARIABLE} is {folder}, a file; set it to a folder")
        return folder
    import platformdirs

    return Path(platformdirs.user_cache_dir("auricle", appauthor=False))


def offline_variable() -> str | None:
    """The environment variable that forbids the network, or None where none does."""
    for name in OFFLINE_VARIABLES:
        if os.environ.get(name, "").strip().lower() in _YES:
            return name
    return None


def is_offline() -> bool:
    """True if `AURICLE_OFFLINE` or `HF_HUB_OFFLINE` forbids the network (1, true, yes or on)."""
    return offline_variable() is not None


def url_folder(url: str) -> Path:
    """The folder of the cache for the file at a URL; it need not exist yet."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:URL_DIGITS]
    return cache_folder() / URLS / digest


def cached_path(record: Record) -> Path:
    """The path in the cache of the file of a catalogue entry; it need not exist yet."""
    suffix = PurePosixPath(urlsplit(record.urls[-1]).path).suffix
    return cache_folder() / ORIGINALS / f"{record.name}{suffix}"


def locked_in_cache(path: Path, timeout_seconds: float) -> AbstractContextManager[None]:
    """Hold the lock of a file of the cache, whose folder exists.

    Raises:
        DownloadError: Another process holds the lock all that time, or the file system has no
            locks.
        OSError: The lock's file cannot be written.
    """
    held = DownloadError(
        f"another process has held {lock_path(path)} for {timeout_seconds:g} s; end it, or try "
        "again"
    )
    return locked(path, timeout_seconds, held, elsewhere=f"set {CACHE_VARIABLE} to a folder")


def embedded_path(record: Record) -> Path:
    """The path of embedded weights in the package that brings them."""
    folder = resources.files(record.package) / PRETRAINED
    return Path(str(folder / f"{record.name}.safetensors"))


def whole_embedded_path(record: Record) -> Path:
    """The path of embedded weights, whose digest is checked.

    Raises:
        ChecksumError: The file is missing or has changed.
    """
    path = embedded_path(record)
    found = file_sha256(path) if path.is_file() else "no such file"
    if found != record.sha256:
        raise ChecksumError(
            f"{path} is not the {record.name} that ships with {record.package}: its sha256 is "
            f"{found}, expected {record.sha256}; install {record.package} again"
        )
    return path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A request for a checkpoint, from which the path of its conversion follows.

    Attributes:
        label: Its name in the request: a name of the catalogue, or a URL.
        places: URLs of its files.
        family: The family it must be of; None to take the one that follows from its content.
        sha256: The digest that its weights must have, in hex, whole or its beginning.
        config_sha256: Digest of a configuration of the user's own.
        normalize: Whether waveforms are normalised; None where the checkpoint decides.
        without_adapters: Whether adapters are left out.
    """

    label: str
    places: tuple[str, ...] = ()
    family: str | None = None
    sha256: str | None = None
    config_sha256: str | None = None
    normalize: bool | None = None
    without_adapters: bool = False

    @property
    def stem(self) -> str:
        """Name of the files that hold the conversion, without their endings."""
        request = (self.label, self.places, self.family, self.config_sha256, self.normalize)
        choices = ("without_adapters",) if self.without_adapters else ()
        parts = (*request, CONVERTER_VERSION, *choices)
        digest = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:STEM_DIGITS]
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", self.label)[-MAX_LABEL_LENGTH:].lstrip("_")
        return f"{name}-{digest}"

    @property
    def path(self) -> Path:
        """The path of its conversion, which need not exist yet."""
        return conversions_folder() / f"{self.stem}.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stamp:
    """Size, time and digest of a file; `path` is relative to the cache folder.

    A file of the same size and modification time (in nanoseconds) counts as the same.
    """

    path: str
    num_bytes: int
    mtime_ns: int
    sha256: str

    @property
    def full_path(self) -> Path:
        """The absolute path of the file."""
        return cache_folder() / self.path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
    """The note of a conversion: label, stamps of its sources (weights first) and of its file."""

    label: str
    sources: tuple[Stamp, ...]
    file: Stamp
    converter_version: int = CONVERTER_VERSION

    @property
    def key(self) -> str:
        """The key that the metadata of the converted file must have."""
        return conversion_key(self.sources)

    @property
    def note_path(self) -> Path:
        """The path of the note."""
        return note_path(self.file.full_path)


def conversions_folder() -> Path:
    """The folder of all conversions; it need not exist yet."""
    return cache_folder() / CONVERTED


def note_path(converted: Path) -> Path:
    """The path of the note of a converted file."""
    return converted.with_suffix(".json")


def conversion_key(sources: tuple[Stamp, ...]) -> str:
    """The key of a conversion: version of the converters and digest of each source."""
    digests = [source.sha256 for source in sources]
    return f"{CONVERTER_VERSION}:{','.join(digests)}"


def stamp(path: Path) -> Stamp:
    """Take the stamp of a file of the cache, which is read whole.

    Raises:
        OSError: The file cannot be read.
    """
    while True:
        before = path.stat()
        digest = file_sha256(path)
        after = path.stat()
        # Else the file was replaced meanwhile, and the digest may be of either.
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            break
    return Stamp(
        path=path.relative_to(cache_folder()).as_posix(),
        num_bytes=after.st_size,
        mtime_ns=after.st_mtime_ns,
        sha256=digest,
    )


def is_as_stamped(stamped: Stamp) -> bool:
    """True if a file has the size and the time of its stamp; the file is not read."""
    try:
        status = stamped.full_path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (stamped.num_bytes, stamped.mtime_ns)


def find_conversion(wanted: Wanted) -> Conversion | None:
    """Find the valid conversion for a request; None where there is none.

    A conversion is valid while its file, and its sources where they still exist, have the size and
    time of their stamps. A file of the same size with another time is read, and is valid if its
    digest is the same.
    """
    conversion = read_note(note_path(wanted.path))
    if conversion is None or conversion.file.full_path != wanted.path:
        return None
    if conversion.converter_version != CONVERTER_VERSION or not conversion.sources:
        return None
    if not conversion.sources[0].sha256.startswith(wanted.sha256 or ""):
        return None
    renewed = [_renewed(conversion.file)]
    for source in conversion.sources:
        if pinned_sha256(source.full_path) not in (None, source.sha256):
            return None
        renewed.append(_renewed(source) if source.full_path.exists() else source)
    file, *sources = (stamped for stamped in renewed if stamped is not None)
    if len(sources) < len(conversion.sources):
        return None
    current = dataclasses.replace(conversion, file=file, sources=tuple(sources))
    if current != conversion:
        try:
            write_note(current)
        except OutputError as error:  # a note only saves the next load from reading the files
            logger.info("%s", error)
    return current


def _renewed(stamped: Stamp) -> Stamp | None:
    """The current stamp of a file with an unchanged digest; None for any other file."""
    if is_as_stamped(stamped):
        return stamped
    try:
        if stamped.full_path.stat().st_size != stamped.num_bytes:
            return None
        renewed = stamp(stamped.full_path)
    except OSError:
        return None
    return renewed if renewed.sha256 == stamped.sha256 else None


def read_note(path: Path) -> Conversion | None:
    """Read the note at `path`; None where it is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Conversion)
    except (OSError, msgspec.DecodeError):
        return None


def write_note(conversion: Conversion) -> None:
    """Write a conversion's note beside it.

    Raises:
        OutputError: The note cannot be written.
    """
    content = msgspec.json.format(msgspec.json.encode(conversion), indent=1)
    write_whole(conversion.note_path, lambda temporary: _write_bytes(temporary, content))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def notes() -> Iterator[Conversion]:
    """Read the notes of all conversions in the cache."""
    for path in sorted(conversions_folder().glob("*.json")):
        conversion = read_note(path)
        if conversion is not None:
            yield conversion
