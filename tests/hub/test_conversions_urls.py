from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

import auricle
from auricle.errors import CheckpointError, DownloadError
from auricle.hub.conversions import fetch_location
from golden_cases import GoldenCase

APC = GoldenCase("apc").checkpoints[0]
DIGEST = hashlib.sha256(APC.read_bytes()).hexdigest()


def test_a_checkpoint_loads_from_a_url_once(server: Any, reply: Any) -> None:
    url = server.say("/my/apc.ckpt", reply(body=APC.read_bytes()))
    encoder = auricle.load(url)
    assert encoder.family == "apc"
    assert (encoder.info.source_url, encoder.info.sha256) == (url, DIGEST)
    auricle.load(url)
    assert len(server.requests) == 1
    auricle.load(url, refresh=True)
    assert len(server.requests) == 2


def test_the_library_s_own_file_loads_from_any_url(server: Any, reply: Any, tmp_path: Path) -> None:
    original = auricle.load(APC)
    original.save(tmp_path / "x.safetensors")
    body = (tmp_path / "x.safetensors").read_bytes()
    # Nothing in the name tells what it is.
    again = auricle.load(server.say("/download", reply(body=body)) + "?id=3")
    wav = torch.randn(4_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again([wav])[0], original([wav])[0])
    assert again.info.sha256 == hashlib.sha256(body).hexdigest()


def test_a_file_url_is_used_in_place(cache: Path) -> None:
    encoder = auricle.load(APC.absolute().as_uri())
    assert (encoder.info.source_url, encoder.info.sha256) == (APC.absolute().as_uri(), DIGEST)
    assert not cache.exists()


def test_a_named_model_takes_its_checkpoint_from_a_url(server: Any, reply: Any) -> None:
    url = server.say("/apc.ckpt", reply(body=APC.read_bytes()))
    info = auricle.load("apc_960hr", checkpoint=url).info
    assert (info.name, info.source_url, info.sha256) == ("apc_960hr", url, DIGEST)
    with pytest.raises(CheckpointError, match="is a checkpoint of apc .*, not of tera"):
        auricle.load("tera", checkpoint=url)


def test_a_password_is_used_and_not_written_down(server: Any, reply: Any) -> None:
    url = server.say("/x.ckpt", reply(body=APC.read_bytes()))
    with_password = url.replace("http://", "http://me:secret@")
    assert fetch_location(with_password).provenance.source_url == url
    ((_, headers),) = server.requests
    assert headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.org/x.pt", "cannot be fetched; expected a https, http or file URL"),
        ("file:///nowhere/x.pt", "is not a file"),
        ("hf://name", r"expected hf://owner/name\[@revision\]\[/file\]"),
    ],
)
def test_what_cannot_be_fetched_is_a_clear_error(url: str, message: str) -> None:
    with pytest.raises(DownloadError, match=message):
        auricle.load(url)


def test_a_bare_repository_name_gets_the_way_to_write_it() -> None:
    with pytest.raises(CheckpointError, match="owner/name does not exist.*hf://owner/name"):
        auricle.load("owner/name")
