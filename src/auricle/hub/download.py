"""Download files to the cache: from mirrors, once for all processes, checked by their sha256."""

from __future__ import annotations

import dataclasses
import errno
import logging
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from auricle.catalogue.family import RECORDS
from auricle.catalogue.record import Record
from auricle.errors import AuricleError, ChecksumError, DownloadError
from auricle.files.atomic import checked_digits, file_sha256, pin, pinned_sha256, unpin
from auricle.hub.cache import (
    CACHE_VARIABLE,
    cached_path,
    locked_in_cache,
    offline_variable,
    url_folder,
)
from auricle.hub.http import Limits, PartialFile, RefusedError, Transfer, open_client
from auricle.hub.huggingface import RepositoryError, fetch_repository
from auricle.hub.location import (
    CONFIG_FILE,
    SCHEME,
    WEIGHT_FILES,
    availability,
    repository_page,
)

logger = logging.getLogger(__name__)

CATALOGUE_SCHEMES = ("https",)
TYPED_SCHEMES = ("https", "http")
"""Schemes of URLs that the user gives."""

MAX_NAME_LENGTH = 100
HTML_STARTS = (b"<!doctype", b"<html")


def fetch(record: Record, *, refresh: bool = False) -> Path:
    """Fetch the file, or the folder, of a catalogue entry; at once if the cache has it.

    Args:
        record: The entry; its mirrors are tried in their order.
        refresh: Download it again, and accept a changed file where no digest is on record.

    Returns:
        The path in the cache.

    Raises:
        DownloadError: No mirror gave the file, or the network may not be used.
        ChecksumError: The downloaded file is not the one on record.
    """
    if not record.urls:
        small = [f'load("{r.name}")' for r in RECORDS if r.embedded and r.family == record.family]
        raise DownloadError(
            f"the weights of {record.name} were never published; pass a checkpoint of your own, "
            f'load("{record.name}", checkpoint="/path/to/file"), build the published size with '
            f'random weights, auricle.build("{record.size}"), or take a small encoder of the '
            f"family that ships with the library: {' or '.join(small) or 'there is none'}"
        )
    if record.is_non_commercial and (refresh or not availability(record).works_offline):
        logger.warning("%s is not for commercial use; its licence: %s", record.name, record.licence)
    files = tuple(url for url in record.urls if not url.startswith(SCHEME))
    path = cached_path(record)
    reasons = []
    if not files or refresh or not path.is_file():
        for url in record.urls:
            if url.startswith(SCHEME):
                try:
                    return fetch_repository(url, refresh=refresh)
                except RepositoryError as error:
                    reasons.append(error.reason)
                except DownloadError as error:
                    reasons.append(str(error))
    local = "/path/to/file" if files else "/path/to/folder"
    local_call = (
        f'load("{record.name}", checkpoint="{local}"), on the command line as in '
        f"`auricle extract audio/ --model {record.name} --checkpoint {local} --out features`"
    )
    label = record.name
    if record.num_bytes is not None:
        label += f" ({record.num_bytes:,} bytes)"
    if not files:
        pages = " or ".join(repository_page(url) for url in record.urls)
        raise DownloadError(
            f"cannot fetch {label}: {'; '.join(reasons)}.\nGet {CONFIG_FILE} and the weights "
            f"({' or '.join(WEIGHT_FILES)}) from {pages} by other means, into one folder, and "
            f"pass the folder: {local_call}"
        )
    for reason in reasons:
        logger.warning("%s; trying other places", reason)
    return download(
        files,
        path,
        sha256=record.sha256,
        sha256_prefix=record.sha256_prefix,
        label=label,
        local_call=local_call,
        schemes=CATALOGUE_SCHEMES,
        refresh=refresh,
    )


def fetch_config(record: Record, *, refresh: bool = False) -> Path | None:
    """Fetch the configuration of a catalogue entry; None where it is not a file of its own.

    Raises:
        DownloadError: The file cannot be fetched.
        ChecksumError: It differs from the first download.
    """
    if record.config_url is None:
        return None
    return download(
        (record.config_url,),
        cached_path(record).with_suffix(".cfg"),
        label=f"the configuration of {record.name}",
        local_call=f'load("{record.name}", checkpoint="/path/to/file", config="/path/to/config")',
        schemes=CATALOGUE_SCHEMES,
        refresh=refresh,
    )


def fetch_url(
    url: str, *, sha256: str | None = None, refresh: bool = False, limits: Limits | None = None
) -> Path:
    """Fetch the file at any URL (https, http or file); at once if the cache has it.

    Args:
        url: The URL; the file of a `file:` URL is not copied.
        sha256: The file's digest in hex; None to trust the first download and pin its digest.
        refresh: Download the file again.
        limits: Limits of time and of attempts.

    Returns:
        The path in the cache.

    Raises:
        DownloadError: The URL cannot be used, or does not give the file.
        ChecksumError: The downloaded file does not have the digest.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DownloadError(f"{url!r} is not a URL: {error}") from error
    if parts.scheme == "file":
        return _local_file(url, sha256)
    if parts.scheme not in TYPED_SCHEMES or not parts.hostname:
        raise DownloadError(f"{url!r} cannot be fetched; expected a https, http or file URL")
    stem = PurePosixPath(unquote(parts.path)).name
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[-MAX_NAME_LENGTH:].lstrip(".") or "checkpoint"
    return download(
        (url,),
        url_folder(url) / name,
        sha256=sha256,
        label=name,
        schemes=TYPED_SCHEMES,
        refresh=refresh,
        limits=limits,
    )


def download(
    urls: Sequence[str],
    destination: Path,
    *,
    sha256: str | None = None,
    sha256_prefix: str | None = None,
    label: str = "",
    local_call: str = 'load("/path/to/file"), on the command line --model /path/to/file',
    schemes: tuple[str, ...] = CATALOGUE_SCHEMES,
    refresh: bool = False,
    limits: Limits | None = None,
) -> Path:
    """Download a file from the first of its mirrors that gives it; return at once if it exists.

    Of several processes one downloads the file and the others wait. The file's digest is pinned
    beside it, in the format of `sha256sum`: a later download must have the same.

    Args:
        urls: Mirrors of the file, in order of preference.
        destination: The path of the file, which is whole or does not exist.
        sha256: The digest that it must have, in hex.
        sha256_prefix: The first hex digits of that digest, where only those are known.
        label: The file's name in messages; that of `destination` by default.
        local_call: A call that loads a file from elsewhere, for messages.
        schemes: Schemes of URLs, and of redirects from them, that are allowed.
        refresh: Download the file again, and forget its pinned digest.
        limits: Limits of time and of attempts.

    Returns:
        `destination`.

    Raises:
        DownloadError: No mirror gave the file, the network may not be used, or the file cannot
            be written; the message names each mirror and its reason.
        ChecksumError: The downloaded file does not have the digest; it is removed.
    """
    job = _Job(
        destination=destination,
        label=label or destination.name,
        local_call=local_call,
        sha256=checked_digits(sha256, 64),
        sha256_prefix=checked_digits(sha256_prefix, 1),
        schemes=schemes,
        limits=limits or Limits(),
    )
    if destination.is_file() and not refresh:
        job.check_pinned()
        return destination
    job.refuse_offline(refresh=refresh)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with locked_in_cache(destination, job.limits.total_seconds):
            # Another process may have been first while this one waited.
            if refresh or not destination.is_file():
                job.run(urls, None if refresh else pinned_sha256(destination))
    except AuricleError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write {destination}: {error.strerror or error}; {_remedy(error, destination)}"
        ) from error
    return destination


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """A file to download: its destination, its expected digest, and names for messages."""

    destination: Path
    label: str
    local_call: str
    sha256: str | None
    sha256_prefix: str | None
    schemes: tuple[str, ...]
    limits: Limits

    def check_pinned(self) -> None:
        """Raise ChecksumError where the pinned digest is not the expected one."""
        pinned = pinned_sha256(self.destination)
        expected = self.sha256 or self.sha256_prefix
        if pinned is not None and expected is not None and not pinned.startswith(expected):
            raise ChecksumError(
                f"the sha256 of {self.destination} is {pinned}, expected {expected}; "
                "download it again with refresh=True (on the command line --refresh)"
            )

    def refuse_offline(self, *, refresh: bool) -> None:
        """Raise DownloadError where the environment forbids the network."""
        variable = offline_variable()
        if variable is None:
            return
        if refresh:
            raise DownloadError(
                f"{self.label} cannot be refreshed: {variable} forbids the network; unset it"
            )
        raise DownloadError(
            f"{self.label} is not in the cache, and {variable} forbids the network; unset it, or "
            f"put the file at {self.destination}, or pass it: {self.local_call}"
        )

    def run(self, urls: Sequence[str], pinned: str | None) -> None:
        """Try each mirror; put the file in place and pin its digest."""
        part = PartialFile(self.destination)
        try:
            self._try_mirrors(part, urls, pinned)
        except AuricleError:
            # No later download could continue such a partial file.
            if not any(part.origin(url) for url in urls):
                part.discard()
            raise
        except OSError:
            with suppress(OSError):
                part.discard()
            raise

    def _try_mirrors(self, part: PartialFile, urls: Sequence[str], pinned: str | None) -> None:
        failures: dict[str, Exception] = {}
        with open_client(self.limits) as client:
            transfer = Transfer(
                client=client,
                part=part,
                limits=self.limits,
                deadline=time.monotonic() + self.limits.total_seconds,
                label=self.label,
                schemes=self.schemes,
                unsized=bool(self.sha256 or self.sha256_prefix or pinned),
            )
            for url in urls:
                failure = self._try_mirror(transfer, url, pinned)
                if failure is None:
                    logger.info("fetched %s from %s", self.label, url)
                    return
                failures[url] = failure
        is_wrong_file = any(isinstance(error, _WrongDigestError) for error in failures.values())
        places = ";".join(f"\n  {url}: {failure}" for url, failure in failures.items())
        raise (ChecksumError if is_wrong_file else DownloadError)(
            f"cannot fetch {self.label}; tried{places}.\nGet the file by other means and pass it: "
            f"{self.local_call}, or put it at {self.destination}"
        )

    def _try_mirror(self, transfer: Transfer, url: str, pinned: str | None) -> Exception | None:
        """Fetch the file from `url` and put it in place; returns the reason where that fails."""
        try:
            digest = self._obtain(transfer, url, pinned)
        except (RefusedError, _WrongDigestError) as error:
            return error
        self._keep(transfer.part, digest)
        return None

    def _obtain(self, transfer: Transfer, url: str, pinned: str | None) -> str:
        """Fill the partial file from `url` and check it; returns its digest."""
        scheme = urlsplit(url).scheme
        if scheme not in self.schemes:
            raise RefusedError(f"{scheme or 'no scheme'}, expected {' or '.join(self.schemes)}")
        part = transfer.part
        was_continued = part.origin(url) is not None
        transfer.fill(url)
        try:
            _refuse_web_page(part.path)
            digest = file_sha256(part.path)
            self._check(digest, pinned)
        except (RefusedError, _WrongDigestError):
            part.discard()
            if was_continued:  # the beginning, left by an earlier run, may be at fault
                return self._obtain(transfer, url, pinned)
            raise
        return digest

    def _check(self, digest: str, pinned: str | None) -> None:
        expected = self.sha256 or self.sha256_prefix
        if expected is not None and not digest.startswith(expected):
            raise _WrongDigestError(
                f"its sha256 is {digest}, expected {expected}; the file was removed"
            )
        if self.sha256 is None and pinned not in (None, digest):
            raise _WrongDigestError(
                f"its sha256 is {digest}, but was {pinned} when it was first downloaded; the "
                "file was removed; if the change is meant, pass refresh=True (on the command "
                "line --refresh)"
            )

    def _keep(self, part: PartialFile, digest: str) -> None:
        # In this order a crash leaves a file without a pinned digest, never with another file's.
        unpin(self.destination)
        part.promote(self.destination)
        pin(self.destination, digest)


class _WrongDigestError(Exception):
    """A whole file with an unexpected digest; the text is the reason."""


def _remedy(error: OSError, destination: Path) -> str:
    """Advice for an error of writing to the cache."""
    elsewhere = f"set {CACHE_VARIABLE} to a folder that you may write to"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"have the owner of {destination.parent} fetch it or let your group write there, or "
            f"{elsewhere}"
        )
    return f"free some space or {elsewhere}"


def _local_file(url: str, sha256: str | None) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise DownloadError(f"{url!r} is on another machine; expected file:///path/to/file")
    path = Path(url2pathname(parts.path))
    if not path.is_file():
        raise DownloadError(f"{path}, which {url!r} names, is not a file")
    if sha256 is not None and file_sha256(path) != sha256.lower():
        # The file is the user's own: it stays.
        raise ChecksumError(f"the sha256 of {path} is {file_sha256(path)}, expected {sha256}")
    return path


def _refuse_web_page(path: Path) -> None:
    """Raise RefusedError for an empty file or a web page, which cannot be checkpoints."""
    with path.open("rb") as file:
        start = file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        raise RefusedError("an empty file came")
    if start.startswith(HTML_STARTS):
        raise RefusedError("a web page came instead of a checkpoint")
