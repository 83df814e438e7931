"""Downloads from a server that misbehaves: the file is whole and right, or not there at all."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from auricle.catalogue.record import Record
from auricle.catalogue.search import find
from auricle.errors import ChecksumError, DownloadError
from auricle.hub import download as download_module
from auricle.hub.cache import cached_path
from auricle.hub.download import download, fetch, fetch_config, fetch_url
from auricle.hub.http import Limits, PartialFile
from forks import Forked


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_comes_once_with_a_note(server: Any, reply: Any, body: bytes, fetcher: Any) -> None:
    url = server.say("/model.ckpt", reply(body=body))
    assert fetcher.get(url, sha256=sha256(body).upper()) == body
    assert fetcher.left() == ["model.ckpt", "model.ckpt.sha256"]
    note = (fetcher.destination.parent / "model.ckpt.sha256").read_text()
    assert note == f"{sha256(body)}  model.ckpt\n"
    fetcher.get(url)
    assert len(server.requests) == 1
    assert server.requests[0][1]["accept-encoding"] == "identity"


def test_a_chunked_body_needs_no_size(server: Any, reply: Any, body: bytes, fetcher: Any) -> None:
    assert fetcher.get(server.say("/f", reply(body=body, chunked=True))) == body


def test_redirects_are_followed(server: Any, reply: Any, body: bytes, fetcher: Any) -> None:
    server.say("/there", reply(body=body))
    url = server.say("/here", reply(status=302, headers=(("Location", "/there"),)))
    assert fetcher.get(url) == body


def test_many_processes_download_once(server: Any, reply: Any, body: bytes, fetcher: Any) -> None:
    url = server.say("/model.ckpt", reply(body=body))
    code = (
        "import sys, pathlib; from auricle.hub.download import download; "
        "download((sys.argv[1],), pathlib.Path(sys.argv[2]), schemes=('http',))"
    )
    processes = [Forked(["-c", code, url, fetcher.destination]) for _ in range(8)]
    assert [process.wait(60) for process in processes] == [0] * 8
    for process in processes:
        process.close()
    assert fetcher.destination.read_bytes() == body
    assert len(server.requests) == 1


def test_plain_http_is_refused_unless_allowed(fetcher: Any) -> None:
    fetcher.refuse("http, expected https", "http://127.0.0.1:1/f", schemes=("https",))


def test_mirrors_are_tried_in_order_and_all_are_named(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    first = server.say("/1", reply(status=404))
    second = server.say("/2", reply(status=403))
    error = str(fetcher.refuse("HTTP 404", first, second, label="tera_x"))
    assert f"{first}: HTTP 404" in error
    assert f"{second}: HTTP 403" in error
    assert "tera_x" in error
    assert 'load("/path/to/file")' in error
    assert str(fetcher.destination) in error
    third = server.say("/3", reply(body=body))
    assert fetcher.get(first, second, third) == body


@pytest.mark.parametrize("expected", [{"sha256": "ab" * 32}, {"sha256_prefix": "abcd"}])
def test_a_wrong_file_is_removed(
    expected: dict[str, str],
    server: Any,
    reply: Any,
    body: bytes,
    fetcher: Any,
) -> None:
    url = server.say("/f", reply(body=body, etag='"a"'))
    error = fetcher.refuse(f"sha256 is {sha256(body)}, expected ab", url, **expected)
    assert isinstance(error, ChecksumError)
    assert fetcher.left() == []


def test_a_prefix_that_fits_is_enough(server: Any, reply: Any, body: bytes, fetcher: Any) -> None:
    url = server.say("/f", reply(body=body))
    assert fetcher.get(url, sha256_prefix=sha256(body)[:8]) == body


def test_after_a_wrong_file_the_next_mirror_is_tried(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    wrong = server.say("/1", reply(body=b"wrong"))
    right = server.say("/2", reply(body=body))
    assert fetcher.get(wrong, right, sha256=sha256(body)) == body


def test_a_file_that_comes_back_different_is_an_error(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    url = server.say("/f", reply(body=body))
    fetcher.get(url)
    fetcher.destination.unlink()
    server.say("/f", reply(body=b"another"))
    with pytest.raises(ChecksumError, match=r"when it was first downloaded.*refresh=True"):
        fetcher.get(url)
    with pytest.raises(ChecksumError, match="when it was first downloaded"):
        fetcher.get(url, sha256_prefix=sha256(b"another")[:8])
    assert fetcher.left() == ["model.ckpt.sha256"]
    assert fetcher.get(url, refresh=True) == b"another"
    fetcher.destination.unlink()
    assert fetcher.get(url) == b"another"


def test_refresh_fetches_again_and_keeps_the_old_file_until_it_has(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    url = server.say("/f", reply(body=body))
    fetcher.get(url)
    server.say("/f", reply(status=404))
    with pytest.raises(DownloadError):
        fetcher.get(url, refresh=True)
    assert fetcher.destination.read_bytes() == body
    assert fetcher.left() == ["model.ckpt", "model.ckpt.sha256"]
    server.say("/f", reply(body=b"new"))
    assert fetcher.get(url, refresh=True) == b"new"


def test_a_crash_never_leaves_a_file_with_the_note_of_another(
    server: Any, reply: Any, body: bytes, fetcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: Path, digest: str) -> None:
        raise KeyboardInterrupt

    url = server.say("/f", reply(body=body))
    fetcher.get(url)
    server.say("/f", reply(body=b"new"))
    monkeypatch.setattr(download_module, "pin", crash)
    with pytest.raises(KeyboardInterrupt):
        fetcher.get(url, refresh=True)
    assert fetcher.destination.read_bytes() == b"new"
    assert fetcher.left() == ["model.ckpt"]


def test_a_cached_file_with_another_digest_is_not_handed_out(
    server: Any, reply: Any, body: bytes, fetcher: Any
) -> None:
    url = server.say("/f", reply(body=body))
    fetcher.get(url)
    with pytest.raises(ChecksumError, match=r"refresh=True"):
        fetcher.get(url, sha256="ab" * 32)
    assert fetcher.get(url, sha256=sha256(body)) == body


def test_a_digest_must_be_one(fetcher: Any) -> None:
    fetcher.refuse("64 hex digits", "http://127.0.0.1:1/f", sha256="abc")


def test_too_little_space_is_seen_before_the_body_comes(
    server: Any,
    reply: Any,
    body: bytes,
    fetcher: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(fetcher.destination.parent.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    url = server.say("/f", reply(body=body, etag='"a"'))
    fetcher.refuse(r"102,400 bytes are needed.*1,000 are free", url)
    assert fetcher.left() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_leaves_nothing(
    server: Any,
    reply: Any,
    body: bytes,
    fetcher: Any,
) -> None:
    part = PartialFile(fetcher.destination).path
    part.parent.mkdir()
    part.symlink_to("/dev/full")
    url = server.say("/f", reply(body=body, etag='"a"'))
    fetcher.refuse("No space left.*AURICLE_CACHE", url)
    assert fetcher.left() == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, limits: Limits) -> None:
    (tmp_path / "file").write_bytes(b"")
    destination = tmp_path / "file" / "below" / "model.ckpt"
    with pytest.raises(DownloadError, match=r"cannot write .*AURICLE_CACHE"):
        download(("https://127.0.0.1:1/f",), destination, limits=limits)


@pytest.fixture
def record(server: Any) -> Record:
    url = server.say("/states-1.ckpt")
    return Record(name="toy", family="tera", urls=(f"{url}?dl=1",), aliases=("toy_alias",))


def test_an_entry_is_kept_under_its_name(
    server: Any, reply: Any, record: Record, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "CATALOGUE_SCHEMES", ("http",))
    server.say("/states-1.ckpt", reply(body=b"weights"))
    path = fetch(record)
    assert path == cached_path(record) == cache / "checkpoints" / "toy.ckpt"
    assert path.read_bytes() == b"weights"
    server.say("/states-1.ckpt", reply(body=b"newer"))
    assert fetch(record).read_bytes() == b"weights"
    assert fetch(record, refresh=True).read_bytes() == b"newer"


def test_a_licence_against_commercial_use_is_said_once_a_download(
    server: Any,
    reply: Any,
    record: Record,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(download_module, "CATALOGUE_SCHEMES", ("http",))
    server.say("/states-1.ckpt", reply(body=b"weights"))
    fetch(record)
    assert caplog.messages == []
    limited = msgspec.structs.replace(record, name="limited", licence="CC BY-NC 4.0, by its page")
    said = "limited is not for commercial use; its licence: CC BY-NC 4.0, by its page"
    for _ in range(2):
        fetch(limited)
        assert caplog.messages == [said]
    fetch(limited, refresh=True)
    assert caplog.messages == [said, said]


def test_an_entry_must_have_the_digest_on_record(
    server: Any, reply: Any, record: Record, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "CATALOGUE_SCHEMES", ("http",))
    server.say("/states-1.ckpt", reply(body=b"weights"))
    for digest in ({"sha256": "ab" * 32}, {"sha256_prefix": "ab"}):
        with pytest.raises(ChecksumError, match="expected ab"):
            fetch(msgspec.structs.replace(record, **digest))
        assert not cached_path(record).exists()


def test_an_entry_comes_over_https_only(record: Record) -> None:
    with pytest.raises(DownloadError, match=r'http, expected https[^$]*load\("toy", checkpoint='):
        fetch(record)


def test_weights_that_were_never_published_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DownloadError, match=r'never published.*auricle\.build\("pase"\)'):
        fetch(find("pase_2019"))


def test_a_configuration_of_its_own_is_fetched_beside_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[tuple[tuple[str, ...], Path]] = []

    def take(urls: tuple[str, ...], path: Path, **options: object) -> Path:
        fetched.append((urls, path))
        return path

    monkeypatch.setattr("auricle.hub.download.download", take)
    record = find("pase_plus")
    assert fetch_config(record) == cached_path(record).with_suffix(".cfg")
    assert fetched == [((record.config_url,), cached_path(record).with_suffix(".cfg"))]
    assert fetch_config(find("apc")) is None


@pytest.mark.parametrize("variable", ["AURICLE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_which_variable_and_which_path(
    variable: str, server: Any, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(DownloadError, match=variable) as caught:
        fetch(record)
    assert str(cached_path(record)) in str(caught.value)
    assert 'load("toy", checkpoint="/path/to/file")' in str(caught.value)
    cached_path(record).parent.mkdir(parents=True)
    cached_path(record).write_bytes(b"put there by hand")
    assert fetch(record).read_bytes() == b"put there by hand"
    with pytest.raises(DownloadError, match=f"cannot be refreshed: {variable}"):
        fetch(record, refresh=True)
    assert server.requests == []


def test_a_url_of_the_users_may_be_http(
    server: Any, reply: Any, body: bytes, cache: Path, limits: Limits
) -> None:
    url = server.say("/a/my%20model.safetensors", reply(body=body))
    path = fetch_url(url, limits=limits)
    assert path.name == "my_model.safetensors"
    assert path.parent.parent == cache / "urls"
    assert path.read_bytes() == body
    other = fetch_url(f"{url}?version=2", limits=limits)
    assert other.name == path.name
    assert other != path
    with pytest.raises(ChecksumError):
        fetch_url(f"{url}?version=3", sha256="ab" * 32, limits=limits)


@pytest.mark.parametrize("path", ["/", "/.hidden", "/%2e%2e%2f%2e%2e", "/" + "x" * 300])
def test_no_url_leads_out_of_the_cache(
    path: str, server: Any, reply: Any, body: bytes, cache: Path, limits: Limits
) -> None:
    kept = fetch_url(server.say(path, reply(body=body)), limits=limits)
    assert kept.read_bytes() == body
    assert kept.resolve().parent.parent == (cache / "urls").resolve()
    assert not kept.name.startswith(".")


def test_a_file_url_is_used_in_place(tmp_path: Path) -> None:
    path = tmp_path / "my model.ckpt"
    path.write_bytes(b"weights")
    assert fetch_url(path.as_uri()) == path
    assert fetch_url(path.as_uri(), sha256=sha256(b"weights").upper()) == path
    with pytest.raises(ChecksumError, match="expected abab"):
        fetch_url(path.as_uri(), sha256="ab" * 32)
    assert path.exists(), "the user's own file stays"
    with pytest.raises(DownloadError, match="is not a file"):
        fetch_url((tmp_path / "missing").as_uri())
    with pytest.raises(DownloadError, match="another machine"):
        fetch_url("file://elsewhere/model.ckpt")


@pytest.mark.parametrize("url", ["ftp://host/f", "model.ckpt", "https:///f", "http://[::1", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(DownloadError, match="URL"):
        fetch_url(url)


def test_proxy_settings_of_no_use_are_named(fetcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")
    fetcher.refuse("proxy settings", "http://127.0.0.1:1/f")
