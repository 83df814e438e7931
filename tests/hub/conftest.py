"""A web server that misbehaves as specified, and a cache of its own for each test."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from auricle.errors import DownloadError
from auricle.hub.download import download
from auricle.hub.http import Limits

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server does with one request.

    `cut_after` closes the connection after so many bytes of the body, `hang` keeps it open and
    silent there instead; `declared` is a wrong Content-Length; `chunked` and `unsized` send
    none; `ranges` says whether ranges are served, `honest` whether `If-Range` is heeded,
    `early_bytes` how many bytes before the one asked for they begin.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    etag: str | None = None
    cut_after: int | None = None
    hang: bool = False
    declared: int | None = None
    chunked: bool = False
    unsized: bool = False
    ranges: bool = True
    honest: bool = True
    early_bytes: int = 0


class Server(ThreadingHTTPServer):
    """Replies by path, in turn; the last one of a path is given for ever."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: dict[str, list[Reply]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        self._lock = threading.Lock()

    def say(self, path: str, *replies: Reply) -> str:
        """Prepare the replies of `path` and give its URL."""
        self.replies[path] = list(replies)
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def take(self, path: str, headers: dict[str, str]) -> Reply:
        with self._lock:
            self.requests.append((path, headers))
            replies = self.replies.get(path.partition("?")[0], [Reply(status=404)])
            return replies.pop(0) if len(replies) > 1 else replies[0]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the game."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.take(self.path, headers)
        start = self._start(reply, headers)
        body = reply.body[start:]
        self.send_response(206 if start else reply.status)
        if start:
            total = len(reply.body)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if reply.etag is not None:
            self.send_header("ETag", reply.etag)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif not reply.unsized:
            length = len(body) if reply.declared is None else reply.declared
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        sent = body if reply.cut_after is None else body[: reply.cut_after]
        if reply.chunked:
            end = b"0\r\n\r\n" if reply.cut_after is None else b""
            sent = b"%x\r\n%b\r\n" % (len(sent), sent) + end
        self.wfile.write(sent)
        self.wfile.flush()
        if reply.hang:
            self.server.released.wait(30)

    def _start(self, reply: Reply, headers: dict[str, str]) -> int:
        """Where the body begins: after what the client has, if a range may be served."""
        if reply.status != 200 or not reply.ranges or "range" not in headers:
            return 0
        if reply.honest and headers.get("if-range") != reply.etag:
            return 0
        start = int(headers["range"].removeprefix("bytes=").removesuffix("-"))
        return start - reply.early_bytes

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def reply() -> type[Reply]:
    """The class of replies, for tests that cannot import this file."""
    return Reply


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test alone, with the network allowed and no proxy."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("AURICLE_CACHE", str(folder))
    for name in ("AURICLE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return folder


@pytest.fixture
def waits() -> list[float]:
    """The waits between attempts, in seconds, which are not really waited."""
    return []


@pytest.fixture
def limits(waits: list[float]) -> Limits:
    return Limits(
        connect_seconds=5, stall_seconds=0.2, total_seconds=30, num_attempts=3, sleep=waits.append
    )


@pytest.fixture
def body() -> bytes:
    """Some 100 kB that repeat nowhere, so that a wrong splice shows."""
    return b"".join(hashlib.sha256(b"%d" % index).digest() for index in range(3200))


@dataclasses.dataclass(frozen=True)
class Fetcher:
    """Downloads to one destination, and what they leave there."""

    destination: Path
    limits: Limits

    def get(self, *urls: str, **options: Any) -> bytes:
        options = {"limits": self.limits, "schemes": ("http", "https"), **options}
        assert download(urls, self.destination, **options) == self.destination
        return self.destination.read_bytes()

    def refuse(self, reason: str, *urls: str, **options: Any) -> DownloadError:
        """Expect a DownloadError with `reason`, and nothing that could be taken for the file."""
        with pytest.raises(DownloadError, match=reason) as caught:
            self.get(*urls, **options)
        assert set(self.left()) <= {"model.ckpt.part", "model.ckpt.part.json"}
        return caught.value

    def left(self) -> list[str]:
        """The names beside the destination, locks left out."""
        folder = self.destination.parent
        names = (path.name for path in folder.iterdir()) if folder.exists() else ()
        return sorted(name for name in names if not name.endswith(".lock"))


@pytest.fixture
def fetcher(tmp_path: Path, limits: Limits) -> Fetcher:
    return Fetcher(tmp_path / "files" / "model.ckpt", limits)
