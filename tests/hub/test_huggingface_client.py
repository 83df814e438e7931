"""The hub's real client against a small server of our own that speaks its protocol."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

import auricle
from auricle.errors import DownloadError
from auricle.hub.huggingface import fetch_snapshot
from golden_cases import GoldenCase

CASE = GoldenCase("hf_wavlm_base_plus")
COMMIT = "89abcdef01" * 4


class Handler(BaseHTTPRequestHandler):
    """One repository with one commit, known as main and refs/pr/1, and what cannot be read."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> None:
        _, name, _, revision, *rest = self.path.strip("/").split("/")
        refusal = {
            "missing": (401, "RepoNotFound"),
            "gated": (403, "GatedRepo"),
            "broken": (500, ""),
            "forbidden": (403, ""),
        }.get(name)
        if refusal is None and unquote(revision) not in ("main", "refs/pr/1", COMMIT):
            refusal = (404, "RevisionNotFound")
        path = CASE.folder / "hf" / "/".join(rest)
        if refusal is None and not path.is_file():
            refusal = (404, "EntryNotFound")
        body = b"" if refusal else path.read_bytes()
        self.send_response(200 if refusal is None else refusal[0])
        if refusal is not None:
            self.send_header("X-Error-Code", refusal[1])
        else:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    # The client waits between attempts, the test does not.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_repository_loads_with_its_commit_and_digest(client: None) -> None:
    encoder = auricle.load("hf://owner/name@refs%2Fpr%2F1")
    assert encoder.info.source_url == f"hf://owner/name@{COMMIT}"
    weights = (CASE.folder / "hf" / "model.safetensors").read_bytes()
    assert encoder.info.sha256 == hashlib.sha256(weights).hexdigest()
    assert CASE.deviation(encoder) <= CASE.limit


def test_what_was_fetched_loads_offline(client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    online = fetch_snapshot("hf://owner/name")
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    assert fetch_snapshot("hf://owner/name") == online
    with pytest.raises(DownloadError, match="not in the cache .*AURICLE_OFFLINE forbids"):
        fetch_snapshot("hf://owner/name@refs%2Fpr%2F1")


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("missing", "no model owner/missing, or it is private; check .*hf auth login.*HF_TOKEN"),
        ("gated", "ask for access at https://huggingface.co/owner/gated, then .*hf auth login"),
        ("forbidden", "cannot be fetched: 403 .*log in with .hf auth login., or set HF_TOKEN"),
        ("broken", "not in the cache and cannot be fetched: .*500"),
        ("name@v9", "owner/name has no revision 'v9'; expected a branch, a tag or a commit"),
        ("name/x/y.pt", "hf://owner/name/x/y.pt lacks x/y.pt"),
    ],
)
def test_each_failure_says_what_it_is(client: None, rest: str, message: str) -> None:
    with pytest.raises(DownloadError, match=message):
        fetch_snapshot(f"hf://owner/{rest}")


def test_retries_are_said_in_one_line(client: None, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DownloadError):
        fetch_snapshot("hf://owner/broken")
    (record,) = caplog.records
    assert record.name.startswith("auricle.")
    assert "hf://owner/broken: HTTP Error 500; trying again" in record.getMessage()


def test_without_a_network_the_client_is_not_let_try(
    client: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    online = fetch_snapshot("hf://owner/name@refs%2Fpr%2F1")

    def fail(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    message = "is not in the cache, and 127.0.0.1 cannot be reached .Name or service not known.*;"
    with pytest.raises(DownloadError, match=f"{message} try again when .* get the files by other"):
        fetch_snapshot("hf://owner/other")
    with pytest.raises(DownloadError, match="cannot be refreshed: 127.0.0.1 cannot be reached"):
        fetch_snapshot("hf://owner/name", refresh=True)
    # What is in the cache does not need it.
    assert fetch_snapshot("hf://owner/name@refs%2Fpr%2F1") == online
    assert caplog.records == []


def test_the_advice_comes_once(client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "auricle.hub.huggingface.unreachable_reason", lambda: "hub cannot be reached"
    )
    with pytest.raises(DownloadError) as caught:
        auricle.load("hubert")
    message = str(caught.value)
    assert message.count("by other means") == 1
    page = "https://huggingface.co/facebook/hubert-base-ls960"
    weights = "config.json and the weights (model.safetensors or pytorch_model.bin)"
    assert f"Get {weights} from {page} by other means, into one folder" in message
    assert 'load("hubert_base", checkpoint="/path/to/folder")' in message
    assert "`auricle extract audio/ --model hubert_base --checkpoint /path/to/folder" in message
    assert "/path/to/file" not in message


def test_a_server_that_cannot_be_reached_is_named(
    client: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(DownloadError, match="not in the cache and cannot be fetched: .*try again"):
        fetch_snapshot("hf://owner/name")
