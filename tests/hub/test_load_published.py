"""The names this library began with load from their published places, by torch.hub as well."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import torch

import auricle
from auricle.catalogue import search
from auricle.errors import DownloadError
from auricle.hub import download
from auricle.hub.http import Limits
from auricle.models.base import Encoder
from golden_cases import GoldenCase

ROOT = Path(__file__).parents[2]

PUBLISHED = {
    "cpc": "modified_cpc",
    "apc": "apc",
    "pase_plus": "pase_plus",
    "wav2vec": "wav2vec",
    "vq_wav2vec": "vq_wav2vec_gumbel",
    "mockingjay": "mockingjay",
    "vq_apc": "vq_apc",
    "audio_albert": "audio_albert",
    "wav2vec2": "wav2vec2_base",
    "npc": "npc",
    "tera": "tera",
}
"""A name -> the golden case with a small file of the format that is published under it."""

NEVER_PUBLISHED = ("cpc_2018", "pase")


class Redirected(httpx.BaseTransport):
    """Sends every request to a server of our own, as /host/path; the client notices nothing."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host, port = self.address
        url = request.url.copy_with(
            scheme="http",
            host=host,
            port=port,
            raw_path=f"/{request.url.host}".encode() + request.url.raw_path,
        )
        return self.transport.handle_request(
            httpx.Request(request.method, url, headers=request.headers)
        )


@pytest.fixture
def publish(server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that lets a URL give a file, where the network is this test's server."""

    def redirected(limits: Limits) -> AbstractContextManager[httpx.Client]:
        return httpx.Client(transport=Redirected(server.server_address))

    monkeypatch.setattr(download, "open_client", redirected)

    def say(url: str, path: Path) -> None:
        parts = urlsplit(url)
        server.say(f"/{parts.hostname}{parts.path}", reply(body=path.read_bytes()))

    return say


def by_torch_hub(name: str) -> Encoder:
    encoder: Encoder = torch.hub.load(str(ROOT), name, source="local")
    return encoder


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_loads_from_where_it_is_published(
    name: str, publish: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = GoldenCase(PUBLISHED[name])
    record = search.find(name)
    checkpoint = case.checkpoints[0]
    if "converted" in record.urls[0]:
        checkpoint = next(path for path in case.checkpoints if "converted" in path.name)
    if record.sha256_prefix is not None:
        # Our small file cannot have the digest of the published one, so it gets its own.
        prefix = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[: len(record.sha256_prefix)]
        small = msgspec.structs.replace(record, sha256_prefix=prefix)
        for one in record.names:
            monkeypatch.setitem(search._BY_NAME, one, small)
    publish(record.urls[0], checkpoint)
    if record.config_url is not None:
        publish(record.config_url, case.folder / str(case.facts["config"]))

    encoder = by_torch_hub(name)
    assert encoder.info.family == case.family == record.family
    assert encoder.info.name == record.name
    assert encoder.info.source_url == record.urls[0]
    assert encoder.info.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert case.deviation(encoder) < case.limit
    hosts = {path.split("/")[1] for path, _ in server.requests}
    assert hosts == {urlsplit(record.urls[0]).hostname}

    num_requests = len(server.requests)
    again = auricle.load(name)
    assert len(server.requests) == num_requests, "the second load is from the cache"
    assert all(map(torch.equal, again.state_dict().values(), encoder.state_dict().values()))


@pytest.mark.parametrize("name", NEVER_PUBLISHED)
def test_a_name_that_was_never_published_says_what_to_do(name: str, server: Any) -> None:
    with pytest.raises(DownloadError, match="never published; pass a checkpoint of your own"):
        by_torch_hub(name)
    assert not server.requests
    case = GoldenCase({"cpc_2018": "cpc", "pase": "pase"}[name])
    encoder = auricle.load(name, checkpoint=case.checkpoints[0])
    assert encoder.info.family == case.family


def test_a_fallen_mirror_gives_way_to_the_next(publish: Any, server: Any) -> None:
    record = search.find("wav2vec")
    assert len(record.urls) == 2
    publish(record.urls[1], GoldenCase("wav2vec").checkpoints[0])
    assert auricle.load("wav2vec").info.family == "wav2vec"
    asked = [path for path, _ in server.requests]
    assert [path.split("/")[1] for path in asked] == [urlsplit(u).hostname for u in record.urls]
