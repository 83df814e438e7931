"""Download one file over HTTP: resume, retry, limit time, detect truncation."""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
import errno
import json
import logging
import os
import random
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import DownloadError

if TYPE_CHECKING:
    import ssl

    import httpx

logger = logging.getLogger(__name__)

MAX_REDIRECTS = 10
NETWORK_ATTEMPTS = 2
"""Attempts at a host that cannot be resolved or reached, before the first byte: most likely
there is no network."""

NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of temporary failures: overload, rate limits, restarts (RFC 9110, 6585)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a transfer: timeouts and number of attempts.

    `num_attempts` counts consecutive attempts without progress; an attempt that gets further than
    all before it starts the count again. The wait between attempts doubles from
    `first_wait_seconds`, with jitter; a server that asks to wait longer than `max_wait_seconds` is
    not asked again.
    """

    connect_seconds: float = 10.0
    stall_seconds: float = 30.0
    total_seconds: float = 6 * 3600.0
    num_attempts: int = 4
    first_wait_seconds: float = 1.0
    max_wait_seconds: float = 60.0
    sleep: Callable[[float], None] = time.sleep


class RefusedError(Exception):
    """A URL that will not give the file, however often it is tried; the text is the reason."""


class InterruptedTransferError(Exception):
    """A failed attempt that may succeed later; the text is the reason."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer:
    """A transfer from a URL to a partial file.

    `deadline` is the time on the monotonic clock by which the transfer ends; `label` stands beside
    the progress bar; `unsized` allows a body of unknown length that ends with the connection, which
    is safe where a digest is checked afterwards.
    """

    client: httpx.Client
    part: PartialFile
    limits: Limits
    deadline: float
    label: str
    schemes: tuple[str, ...]
    unsized: bool

    def fill(self, url: str) -> None:
        """Fill the partial file from `url`, in as many attempts as the limits allow.

        Raises:
            RefusedError: This URL does not give the file.
            DownloadError: No other URL would help: the disk is full.
        """
        import httpx

        num_failures = 0
        farthest = self.part.num_bytes
        max_failures = self.limits.num_attempts
        while True:
            try:
                return self._attempt(url)
            except InterruptedTransferError as error:
                reason, asked_seconds = str(error), error.wait_seconds
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise RefusedError(str(error)) from error
            except httpx.TransportError as error:
                if self.part.num_bytes == 0 and no_network(error) is not None:
                    max_failures = min(max_failures, NETWORK_ATTEMPTS)
                reason, asked_seconds = _describe(error, self.limits), 0.0
            num_bytes = self.part.num_bytes
            num_failures = 1 if num_bytes > farthest else num_failures + 1
            farthest = max(farthest, num_bytes)
            if num_failures >= max_failures:
                raise RefusedError(f"{reason} (tried {num_failures} times)")
            if num_failures == 1 < max_failures - 1:
                logger.warning("%s: %s; trying again", url, reason)
            self._pause(reason, asked_seconds, num_failures)

    def _pause(self, reason: str, asked_seconds: float, num_failures: int) -> None:
        """Wait before the next attempt; RefusedError where the limits allow none."""
        limits = self.limits
        if asked_seconds > limits.max_wait_seconds:
            raise RefusedError(f"{reason}; it asks to wait {asked_seconds:.0f} s")
        backoff = limits.first_wait_seconds * 2 ** (num_failures - 1)
        # Jitter keeps machines that failed together from coming back together.
        backoff *= random.SystemRandom().uniform(0.5, 1.0)
        wait = max(asked_seconds, min(backoff, limits.max_wait_seconds))
        if time.monotonic() + wait > self.deadline:
            raise RefusedError(f"{reason}; no time left of {limits.total_seconds:g} s")
        limits.sleep(wait)

    def _attempt(self, url: str) -> None:
        origin = self.part.origin(url)
        headers = {"Accept-Encoding": "identity"}
        if origin is not None:
            headers["Range"] = f"bytes={self.part.num_bytes}-"
            headers["If-Range"] = origin.validator
        with self._get(url, headers) as response:
            self._check(response)
            if origin is not None and response.status_code == 206:
                self._check_continues(response, origin)
                num_bytes = origin.num_bytes
            else:
                num_bytes = _content_length(response)
                validator = _validator(response)
                self.part.restart(
                    Origin(url=url, validator=validator, num_bytes=num_bytes) if validator else None
                )
            self._receive(response, num_bytes)

    @contextmanager
    def _get(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Request `url` and follow redirects, each of which is checked."""
        request = self.client.build_request("GET", url, headers=headers)
        for _ in range(MAX_REDIRECTS + 1):
            response = self.client.send(request, stream=True)
            if response.next_request is None:
                try:
                    yield response
                finally:
                    response.close()
                return
            response.close()
            check_redirect(request.url.scheme, response.next_request.url.scheme, self.schemes)
            request = response.next_request
        raise RefusedError(f"more than {MAX_REDIRECTS} redirects")

    def _check(self, response: httpx.Response) -> None:
        """Raise for a response that does not carry the content of a checkpoint."""
        status = response.status_code
        if status == 416:  # the partial file is not a beginning of the server's
            self.part.discard()
            raise InterruptedTransferError("HTTP 416: the partial file does not fit")
        if status not in (200, 206):
            reason = f"HTTP {status} {response.reason_phrase}".rstrip()
            if status in RETRIED_STATUSES:
                wait = retry_after_seconds(response.headers.get("Retry-After", ""))
                raise InterruptedTransferError(reason, wait)
            raise RefusedError(reason)
        if status == 206 and "Range" not in response.request.headers:
            raise RefusedError("HTTP 206: a part of the file came where the whole was asked for")
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise RefusedError("a web page came instead of a checkpoint")
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity":
            raise RefusedError(f"the server compressed the file ({encoding}) against the request")
        chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if not (self.unsized or chunked or "Content-Length" in response.headers):
            raise RefusedError("the server does not tell the size, so a cut would go unnoticed")

    def _check_continues(self, response: httpx.Response, origin: Origin) -> None:
        """Start again unless the response continues exactly at the end of the partial file."""
        span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", "").strip())
        begins_there = span is not None and int(span[1]) == self.part.num_bytes
        if not begins_there or not _is_version(response, origin.validator):
            self.part.discard()
            raise InterruptedTransferError("the file changed while it was fetched")

    def _receive(self, response: httpx.Response, num_bytes: int | None) -> None:
        """Append the body to the partial file."""
        from tqdm import tqdm

        part = self.part
        start = part.num_bytes
        remaining = num_bytes - start if num_bytes is not None else 0
        free = shutil.disk_usage(part.path.parent).free
        if remaining > free:
            raise DownloadError(
                f"{remaining:,} bytes are needed in {part.path.parent}, {free:,} are free; free "
                "some space or set AURICLE_CACHE to a folder with more"
            )
        bar = tqdm(
            total=num_bytes, initial=start, desc=self.label, unit="B", unit_scale=True,
            leave=False, file=sys.stderr,
            disable=None,  # None shows the bar on a terminal only
        )  # fmt: skip
        with bar, part.path.open("ab") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                bar.update(len(chunk))
                if time.monotonic() > self.deadline:
                    raise RefusedError(f"not done within {self.limits.total_seconds:g} s")
        if num_bytes is not None and part.num_bytes != num_bytes:
            got = part.num_bytes
            part.discard()
            raise InterruptedTransferError(f"{got:,} bytes came, {num_bytes:,} were announced")


@contextmanager
def open_client(limits: Limits) -> Iterator[httpx.Client]:
    """Open a client that does not follow redirects by itself, for each is checked.

    Raises:
        DownloadError: The environment names a proxy that cannot be used.
    """
    import httpx

    timeout = httpx.Timeout(limits.stall_seconds, connect=limits.connect_seconds)
    try:
        client = httpx.Client(timeout=timeout, follow_redirects=False, verify=_tls_context())
    except (ImportError, ValueError) as error:  # proxy variables of a kind that httpx refuses
        raise DownloadError(f"the proxy settings cannot be used: {error}") from error
    with client:
        yield client


@cache
def _tls_context() -> ssl.SSLContext:
    """Read the trusted certificates, which takes longer than many requests."""
    import httpx

    return httpx.create_ssl_context()


def check_redirect(source_scheme: str, target_scheme: str, schemes: tuple[str, ...]) -> None:
    """Allow a redirect between two URLs, given by their schemes.

    Raises:
        RefusedError: The redirect leaves HTTPS, or its scheme is not among `schemes`.
    """
    if source_scheme == "https" and target_scheme != "https":
        raise RefusedError(f"it redirects from https to {target_scheme}, which is not safe")
    if target_scheme not in schemes:
        raise RefusedError(f"it redirects to {target_scheme}, expected {' or '.join(schemes)}")


def retry_after_seconds(header: str) -> float:
    """Parse the wait of a `Retry-After` header (RFC 9110, 10.2.3); 0 for an invalid one."""
    header = header.strip()
    if header.isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return max(0.0, moment.timestamp() - time.time())


def _validator(response: httpx.Response) -> str | None:
    """The validator of this version of the file for `If-Range` (RFC 9110, 13.1.5)."""
    etag: str | None = response.headers.get("ETag")
    if etag is not None:
        return None if etag.startswith("W/") else etag
    modified: str | None = response.headers.get("Last-Modified")
    return modified


def _is_version(response: httpx.Response, validator: str) -> bool:
    """True unless the response names another version than `validator` does."""
    field = "ETag" if validator.startswith('"') else "Last-Modified"
    return bool(response.headers.get(field, validator) == validator)


def _content_length(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def no_network(error: BaseException) -> OSError | None:
    """Find the system's error of an unresolved or unreachable host; None for other errors.

    Follows the chain of causes, for HTTP libraries raise errors of their own.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if isinstance(found, socket.gaierror):
            return found
        if isinstance(found, OSError) and found.errno in NO_ROUTE:
            return found
        found = found.__cause__ or found.__context__
    return None


def _describe(error: httpx.TransportError, limits: Limits) -> str:
    import httpx

    if (cause := no_network(error)) is not None:
        return f"the host cannot be reached ({cause.strerror}; is there a network?)"
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {limits.connect_seconds:g} s"
    if isinstance(error, httpx.ReadTimeout):
        return f"nothing came for {limits.stall_seconds:g} s"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin of a partial file.

    `validator` is the server's name of this version of the file (a strong ETag or a date of
    modification), `num_bytes` the size of the whole file, None if the server does not state it.
    """

    url: str
    validator: str
    num_bytes: int | None


class PartialFile:
    """A `.part` file beside its destination, with a note of its origin.

    A reader of the whole file never looks for these names.
    """

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(f"{destination.name}.part")
        self._note = destination.with_name(f"{destination.name}.part.json")

    @property
    def num_bytes(self) -> int:
        """Size of the file so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self, url: str) -> Origin | None:
        """The origin of the file; None where it cannot be continued from `url`."""
        if self.num_bytes == 0:
            return None
        try:
            origin = Origin(**json.loads(self._note.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # no note, or a part of one
            return None
        return origin if origin.url == url else None

    def restart(self, origin: Origin | None) -> None:
        """Empty the file, to be filled from `origin` (None: it cannot be continued)."""
        self._note.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        if origin is not None:
            note = json.dumps(dataclasses.asdict(origin))
            self._note.write_text(note, encoding="utf-8")

    def discard(self) -> None:
        """Remove the file and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def promote(self, destination: Path) -> None:
        """Move the whole file to `destination` atomically, flushed to disk."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(destination)
        self._note.unlink(missing_ok=True)
        if os.name == "posix":  # the new name is on disk only once its folder is
            folder = os.open(destination.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
