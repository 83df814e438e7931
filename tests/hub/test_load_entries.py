"""Entry points of torch.hub: from a name, a local file, a URL or nothing at all to an encoder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from auricle.catalogue import search
from auricle.errors import AuricleError, CheckpointError, ChecksumError, DownloadError
from auricle.files.atomic import file_sha256, pin
from auricle.hub.cache import cached_path
from auricle.models.base import Encoder
from golden_cases import GoldenCase

ROOT = Path(__file__).parents[2]
CHECKPOINT = GoldenCase("tera").checkpoints[0]


def entry(name: str, *arguments: Any, **options: Any) -> Encoder:
    encoder: Encoder = torch.hub.load(str(ROOT), name, *arguments, source="local", **options)
    return encoder


def test_a_name_loads_what_is_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    with pytest.raises(DownloadError, match="AURICLE_OFFLINE"):
        entry("tera")
    record = search.find("tera")
    path = cached_path(record)
    path.parent.mkdir(parents=True)
    shutil.copy(CHECKPOINT, path)
    pin(path, file_sha256(path))
    info = entry("tera").info
    expected = ("tera", record.urls[0], file_sha256(path))
    assert (info.family, info.source_url, info.sha256) == expected
    assert info.training_data == record.training_data
    with pytest.raises(DownloadError, match="refreshed"):
        entry("tera", refresh=True)


def test_a_name_takes_a_local_copy_and_a_device() -> None:
    encoder = entry("tera_100hr", checkpoint=CHECKPOINT, device="meta")
    assert {parameter.device.type for parameter in encoder.parameters()} == {"meta"}
    assert not encoder.training


def test_a_local_file_is_loaded_as_its_family_only() -> None:
    encoder = entry("tera_local", str(CHECKPOINT))
    (frames,) = encoder([torch.sin(torch.arange(4000) / 10)])
    assert frames.shape == (26, encoder.info.dims[encoder.info.default_layer])
    with pytest.raises(CheckpointError, match="not of apc"):
        entry("apc_local", CHECKPOINT)
    with pytest.raises(CheckpointError, match="does not exist"):
        entry("tera_local", "missing.ckpt")
    with pytest.raises(AuricleError, match="no field hidden_size; expected one of features"):
        entry("tera_local", CHECKPOINT, config={"hidden_size": 1})


def test_a_url_is_loaded_through_the_cache(server: Any, reply: Any, cache: Path) -> None:
    url = server.say("/my.ckpt", reply(body=CHECKPOINT.read_bytes()))
    info = entry("tera_url", url).info
    assert (info.family, info.source_url) == ("tera", url)
    assert info.sha256 == file_sha256(CHECKPOINT)
    entry("tera_url", url, sha256=file_sha256(CHECKPOINT))
    assert len(server.requests) == 1
    entry("tera_url", url, refresh=True)
    assert len(server.requests) == 2
    with pytest.raises(ChecksumError):
        entry("tera_url", url, sha256="ab" * 32)
    assert list(cache.rglob("my.ckpt"))


def test_a_baseline_takes_options() -> None:
    encoder = entry("fbank", config={"cmvn": True})
    (frames,) = encoder([torch.sin(torch.arange(4000) / 10) * torch.linspace(0, 1, 4000)])
    assert frames.shape == (23, 80)
    assert frames.mean(dim=0).abs().max() < 1e-2
