"""Entry points: from a name, a local file, a URL or nothing at all to an encoder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from auricle.catalogue import search
from auricle.errors import CheckpointError, ChecksumError, DownloadError
from auricle.files.digests import file_sha256, pin
from auricle.hub import entrypoints
from auricle.hub.cache import cached_path

CHECKPOINT = Path(__file__).parents[1] / "golden" / "cases" / "tera" / "checkpoint.ckpt"


def test_a_name_loads_what_is_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    tera = entrypoints.named("tera")
    with pytest.raises(DownloadError, match="AURICLE_OFFLINE"):
        tera()
    record = search.find("tera")
    path = cached_path(record)
    path.parent.mkdir(parents=True)
    shutil.copy(CHECKPOINT, path)
    pin(path, file_sha256(path))
    info = tera().info
    expected = ("tera", record.urls[0], file_sha256(path))
    assert (info.family, info.source_url, info.sha256) == expected
    assert info.training_data == record.training_data
    with pytest.raises(DownloadError, match="refreshed"):
        tera(refresh=True)


def test_a_name_takes_a_local_copy_and_a_device() -> None:
    encoder = entrypoints.named("tera_100hr")(checkpoint=CHECKPOINT, device="meta")
    assert {parameter.device.type for parameter in encoder.parameters()} == {"meta"}
    assert not encoder.training


def test_a_local_file_is_loaded_as_its_family_only() -> None:
    encoder = entrypoints.local("tera")(str(CHECKPOINT))
    (frames,) = encoder([torch.sin(torch.arange(4000) / 10)])
    assert frames.shape == (26, encoder.info.dims[encoder.info.default_layer])
    with pytest.raises(CheckpointError, match="not of apc"):
        entrypoints.local("apc")(CHECKPOINT)
    with pytest.raises(CheckpointError, match="does not exist"):
        entrypoints.local("tera")("missing.ckpt")
    with pytest.raises(CheckpointError, match="config"):
        entrypoints.local("tera")(CHECKPOINT, config={"hidden_size": 1})


def test_a_url_is_loaded_through_the_cache(server: Any, reply: Any, cache: Path) -> None:
    url = server.say("/my.ckpt", reply(body=CHECKPOINT.read_bytes()))
    load = entrypoints.url("tera")
    info = load(url).info
    assert (info.family, info.source_url) == ("tera", url)
    assert info.sha256 == file_sha256(CHECKPOINT)
    load(url, sha256=file_sha256(CHECKPOINT))
    assert len(server.requests) == 1
    load(url, refresh=True)
    assert len(server.requests) == 2
    with pytest.raises(ChecksumError):
        load(url, sha256="ab" * 32)
    assert list(cache.rglob("my.ckpt"))


def test_a_baseline_takes_options() -> None:
    encoder = entrypoints.baseline("fbank")(config={"cmvn": True})
    (frames,) = encoder([torch.sin(torch.arange(4000) / 10) * torch.linspace(0, 1, 4000)])
    assert frames.shape == (23, 80)
    assert frames.mean(dim=0).abs().max() < 1e-2


@pytest.mark.parametrize(
    ("entry", "name", "says"),
    [
        (entrypoints.named("tera"), "tera", "arxiv.org/abs/2007.06028"),
        (entrypoints.local("npc"), "npc_local", "NPC from a local checkpoint"),
        (entrypoints.url("apc"), "apc_url", "APC from a checkpoint at a URL"),
        (entrypoints.baseline("mel"), "mel", "log mel"),
    ],
)
def test_help_is_shown_as_it_should_be(entry: Any, name: str, says: str) -> None:
    assert entry.__name__ == name
    assert says in entry.__doc__
    assert "\nArgs:\n    " in entry.__doc__
