"""Transfers from a server that misbehaves: resumed, retried, given up, never spliced wrongly."""

from __future__ import annotations

import dataclasses
import email.utils
import errno
import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from auricle.hub import download as download_module
from auricle.hub.http import Limits, PartialFile, RefusedError, check_redirect, retry_after_seconds


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_cut_download_goes_on_where_it_was_cut(
    server: Any, reply: Any, body: bytes, fetcher: Any, waits: list[float]
) -> None:
    cut = reply(body=body, etag='"a"', cut_after=40_000)
    url = server.say("/f", cut, dataclasses.replace(cut, cut_after=None))
    assert fetcher.get(url) == body
    asked = server.requests[1][1]
    assert asked["if-range"] == '"a"'
    start = int(asked["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 40_000
    assert len(waits) == 1
    assert fetcher.left() == ["model.ckpt", "model.ckpt.sha256"]


def test_a_later_run_goes_on_with_what_an_earlier_one_left(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    cut = reply(body=body, etag='"a"', cut_after=40_000)
    url = server.say("/f", cut, reply(status=404))
    fetcher.refuse("HTTP 404", url)
    assert fetcher.left() == ["model.ckpt.part", "model.ckpt.part.json"]
    server.say("/f", reply(body=body, etag='"a"'))
    assert fetcher.get(url) == body
    assert "range" in server.requests[-1][1]


def test_a_damaged_beginning_is_fetched_again(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    url = server.say("/f", reply(body=body, etag='"a"', cut_after=40_000), reply(status=404))
    fetcher.refuse("HTTP 404", url, sha256=sha256(body))
    PartialFile(fetcher.destination).path.write_bytes(b"\0" * 40_000)
    server.say("/f", reply(body=body, etag='"a"'))
    assert fetcher.get(url, sha256=sha256(body)) == body


def test_the_beginning_of_another_mirrors_file_is_not_continued(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    cut = reply(body=b"x" * 90_000, etag='"a"', cut_after=50_000)
    first = server.say("/1", cut, reply(status=404))
    second = server.say("/2", reply(body=body, etag='"a"'))
    assert fetcher.get(first, second) == body
    assert "range" not in server.requests[-1][1]


@pytest.mark.parametrize("etag", [None, 'W/"a"'])
def test_without_a_strong_name_of_the_version_it_starts_over(
    etag: str | None, server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    cut = reply(body=body, etag=etag, cut_after=40_000)
    url = server.say("/f", cut, dataclasses.replace(cut, cut_after=None))
    assert fetcher.get(url) == body
    assert "range" not in server.requests[1][1]


def test_a_server_without_ranges_starts_over(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    cut = reply(body=body, etag='"a"', cut_after=40_000, ranges=False)
    url = server.say("/f", cut, dataclasses.replace(cut, cut_after=None))
    assert fetcher.get(url) == body


@pytest.mark.parametrize("honest", [True, False], ids=["heeds If-Range", "ignores If-Range"])
def test_a_file_that_changed_meanwhile_is_never_spliced(
    honest: bool, server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    new = body[::-1]
    url = server.say(
        "/f",
        reply(body=body, etag='"a"', cut_after=40_000),
        reply(body=new, etag='"b"', honest=honest),
    )
    assert fetcher.get(url) == new


def test_a_file_that_grew_under_the_same_name_is_never_spliced(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    new = body[::-1] + b"more"
    url = server.say(
        "/f", reply(body=body, etag='"a"', cut_after=40_000), reply(body=new, etag='"a"')
    )
    assert fetcher.get(url) == new


def test_a_range_that_begins_elsewhere_is_never_spliced(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    # Without a size, nothing but the range itself tells that it does not fit.
    cut = reply(body=body, etag='"a"', cut_after=40_000, chunked=True)
    whole = dataclasses.replace(cut, cut_after=None)
    url = server.say("/f", cut, dataclasses.replace(whole, early_bytes=10), whole)
    assert fetcher.get(url) == body


def test_a_range_that_does_not_exist_starts_over(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    url = server.say(
        "/f",
        reply(body=body, etag='"a"', cut_after=40_000),
        reply(status=416),
        reply(body=body, etag='"a"'),
    )
    assert fetcher.get(url) == body


def test_attempts_that_get_further_do_not_count(
    server: Any, reply: Any, body: bytes, fetcher: Any, limits: Limits, waits: list[float]
) -> None:
    step = reply(body=body, etag='"a"', cut_after=20_000)
    url = server.say("/f", step)  # more cuts than attempts are allowed in a row
    assert fetcher.get(url) == body
    assert len(waits) > limits.num_attempts


def test_a_wrong_content_length_is_a_cut(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    url = server.say("/f", reply(body=body, declared=len(body) + 1, ranges=False))
    fetcher.refuse("without sending complete message body.*tried 3 times", url)
    assert len(server.requests) == 3
    assert fetcher.left() == []


def test_a_range_shorter_than_announced_is_not_whole(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    short = reply(body=body, etag='"a"', declared=10)
    url = server.say("/f", reply(body=body, etag='"a"', cut_after=40_000), short, reply(status=404))
    fetcher.refuse("HTTP 404", url)


def test_an_end_that_only_the_connection_marks_needs_a_digest(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    url = server.say("/f", reply(body=body, unsized=True))
    fetcher.refuse("does not tell the size", url)
    assert fetcher.get(url, sha256=sha256(body)) == body


def test_silence_is_given_up(
    server: Any, reply: Any, body: bytes, fetcher: Any, limits: Limits
) -> None:
    url = server.say("/f", reply(body=body, cut_after=0, hang=True))
    limits = dataclasses.replace(limits, stall_seconds=0.05, num_attempts=2)
    fetcher.refuse(r"nothing came for 0\.05 s \(tried 2 times\)", url, limits=limits)
    assert fetcher.left() == []


def test_all_of_it_is_bounded_in_time(
    server: Any, reply: Any, body: bytes, fetcher: Any, limits: Limits
) -> None:
    url = server.say("/f", reply(body=body))
    limits = dataclasses.replace(limits, total_seconds=0.0, num_attempts=1)
    fetcher.refuse("not done within 0 s", url, limits=limits)


def test_a_retry_that_would_come_too_late_is_not_waited_for(
    server: Any, reply: Any, fetcher: Any, limits: Limits, waits: list[float]
) -> None:
    url = server.say("/f", reply(status=500))
    fetcher.refuse("no time left", url, limits=dataclasses.replace(limits, total_seconds=0.01))
    assert waits == []


def test_a_refused_connection_is_retried(server: Any, fetcher: Any) -> None:
    fetcher.refuse(r"ConnectError.*tried 3 times", "http://127.0.0.1:1/f")


def without_network(error: OSError, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every connection to a name fail; gives the names that were asked for."""
    asked: list[str] = []

    def fail(host: str, *arguments: object, **options: object) -> None:
        asked.append(host)
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    return asked


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
    ],
)
def test_without_a_network_it_is_given_up_soon(
    error: OSError,
    fetcher: Any,
    limits: Limits,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = without_network(error, monkeypatch)
    limits = dataclasses.replace(limits, num_attempts=4)
    urls = ("http://one.invalid/f", "http://two.invalid/f")
    failure = fetcher.refuse("cannot be reached .*is there a network", *urls, limits=limits)
    assert str(failure).count(str(error.strerror)) == 2
    assert asked == ["one.invalid"] * 2 + ["two.invalid"] * 2
    assert sum(waits) <= 2 * limits.first_wait_seconds
    assert caplog.records == []


def test_a_network_that_goes_away_on_the_way_is_waited_for(
    server: Any,
    reply: Any,
    body: bytes,
    fetcher: Any,
    limits: Limits,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = server.say("/f", reply(body=body, etag='"a"', cut_after=40_000))
    real = socket.getaddrinfo

    def once(*arguments: Any, **options: Any) -> Any:
        if waits:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    limits = dataclasses.replace(limits, num_attempts=4)
    fetcher.refuse("Temporary failure in name resolution.*tried 4 times", url, limits=limits)


def test_retries_are_said_in_one_line(
    server: Any, reply: Any, fetcher: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.say("/f", reply(status=503))
    fetcher.refuse("HTTP 503 .*tried 3 times", url)
    assert [record.getMessage() for record in caplog.records] == [
        f"{url}: HTTP 503 Service Unavailable; trying again"
    ]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 206, 304])
def test_a_refusal_is_final(status: int, server: Any, reply: Any, fetcher: Any) -> None:
    url = server.say("/f", reply(status=status, body=b"no"))
    fetcher.refuse(f"HTTP {status}", url)
    assert len(server.requests) == 1
    assert fetcher.left() == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_retried(
    status: int,
    server: Any,
    reply: Any,
    body: bytes,
    fetcher: Any,
    waits: list[float],
) -> None:
    url = server.say("/f", reply(status=status), reply(status=status), reply(body=body))
    assert fetcher.get(url) == body
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0


def test_a_lasting_failure_is_given_up(server: Any, reply: Any, fetcher: Any) -> None:
    url = server.say("/f", reply(status=500))
    fetcher.refuse(r"HTTP 500 .*tried 3 times", url)


def test_retry_after_is_honoured(
    server: Any, reply: Any, body: bytes, fetcher: Any, waits: list[float]
) -> None:
    busy = reply(status=429, headers=(("Retry-After", "7"),))
    assert fetcher.get(server.say("/f", busy, reply(body=body))) == body
    assert waits == [7.0]


def test_a_wait_beyond_reason_is_not_waited(
    server: Any, reply: Any, fetcher: Any, waits: list[float]
) -> None:
    url = server.say("/f", reply(status=429, headers=(("Retry-After", "3600"),)))
    fetcher.refuse("asks to wait 3600 s", url)
    assert waits == []


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (b"<!DOCTYPE html><p>", "application/octet-stream"),
        (b"\xef\xbb\xbf\n <HTML>", "application/octet-stream"),
        (b"Too many requests.", "text/html; charset=utf-8"),
    ],
)
def test_a_web_page_is_not_a_checkpoint(
    page: bytes, kind: str, server: Any, reply: Any, fetcher: Any
) -> None:
    url = server.say("/f", reply(body=page, headers=(("Content-Type", kind),)))
    fetcher.refuse("a web page came", url)
    assert fetcher.left() == []


def test_an_empty_file_is_not_a_checkpoint(server: Any, reply: Any, fetcher: Any) -> None:
    fetcher.refuse("an empty file", server.say("/f", reply()))


def test_a_compressed_body_is_refused(server: Any, reply: Any, body: bytes, fetcher: Any) -> None:
    url = server.say("/f", reply(body=body, headers=(("Content-Encoding", "gzip"),)))
    fetcher.refuse("compressed", url)


def test_redirects_end_somewhere(server: Any, reply: Any, fetcher: Any) -> None:
    url = server.say("/f", reply(status=302, headers=(("Location", "/f"),)))
    fetcher.refuse("more than 10 redirects", url)
    url = server.say("/g", reply(status=302, headers=(("Location", "ftp://127.0.0.1/f"),)))
    fetcher.refuse("redirects to ftp", url)


@pytest.mark.parametrize(("source", "target"), [("https", "https"), ("http", "https")])
def test_redirects_to_https_are_fine(source: str, target: str) -> None:
    check_redirect(source, target, ("https",))


def test_a_redirect_never_leaves_https() -> None:
    with pytest.raises(RefusedError, match="https to http"):
        check_redirect("https", "http", ("https", "http"))


def test_a_redirect_keeps_to_the_schemes_allowed() -> None:
    check_redirect("http", "http", ("https", "http"))
    for target in ("file", "ftp", "http"):
        with pytest.raises(RefusedError, match=f"redirects to {target}"):
            check_redirect("http", target, ("https",))


@pytest.mark.parametrize(
    ("header", "seconds"), [("", 0), ("7", 7), (" 120 ", 120), ("soon", 0), ("-5", 0), ("1.5", 0)]
)
def test_retry_after_in_seconds(header: str, seconds: float) -> None:
    assert retry_after_seconds(header) == seconds


def test_retry_after_as_a_date() -> None:
    soon = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 50 < retry_after_seconds(soon) <= 100
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 -0000") == 0


def test_a_server_that_redirects_from_https_to_http_is_not_followed(
    fetcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if request.url.scheme == "https":
            return httpx.Response(302, headers={"Location": "http://host/f"})
        return httpx.Response(200, content=b"from anybody")

    @contextmanager
    def client(limits: Limits) -> Iterator[httpx.Client]:
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            yield client

    monkeypatch.setattr(download_module, "open_client", client)
    fetcher.refuse("https to http, which is not safe", "https://host/f")
    assert asked == ["https://host/f"]
    assert fetcher.left() == []
