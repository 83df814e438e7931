"""Convert once: the same encoder either way, and never a conversion of something else."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import auricle
from auricle.catalogue import search
from auricle.errors import CheckpointError, ChecksumError, DownloadError
from auricle.files.atomic import file_sha256, pin
from auricle.files.safetensors import is_native, read_native
from auricle.hub import conversions
from auricle.hub.cache import CONVERTER_VERSION, Wanted, cached_path, find_conversion, note_path
from auricle.hub.conversions import Fetched, load_once_converted
from auricle.info import Provenance
from auricle.models.base import Encoder
from golden_cases import GoldenCase

CASES = (
    "apc",
    "cpc",
    "hf_wavlm_base_plus",
    "npc_bottleneck",
    "pase_plus",
    "vq_apc",
    "wav2vec2_base",
)
TERA = GoldenCase("tera").checkpoints[0]
ORIGIN = Provenance(source_url="https://host/file", licence="none")


def in_cache(name: str, cache: Path) -> Fetched:
    """A golden case as it lies in the cache after its download."""
    case = GoldenCase(name)
    folder = cache / "urls" / name
    shutil.copytree(case.folder, folder)
    path = folder / case.checkpoints[0].relative_to(case.folder)
    return Fetched(path=path, provenance=ORIGIN)


def never() -> Fetched:
    pytest.fail("this was to come from the conversion")


def loaded(wanted: Wanted, fetch: Callable[[], Fetched], *, refresh: bool = False) -> Encoder:
    """The encoder of a checkpoint that is read by way of its conversion."""
    return load_once_converted(wanted, fetch, refresh=refresh).build()


def assert_same(one: Encoder, other: Encoder) -> None:
    assert type(one) is type(other)
    assert one.config == other.config
    assert one.provenance == other.provenance
    assert one.unused_keys == other.unused_keys
    weights, others = one.state_dict(), other.state_dict()
    assert list(weights) == list(others)
    for name, weight in weights.items():
        assert weight.dtype == others[name].dtype
        assert torch.equal(weight, others[name]), name
    assert all(parameter.requires_grad for parameter in other.parameters())
    assert not other.training


@pytest.mark.parametrize("name", CASES)
def test_the_conversion_gives_the_same_bits(name: str, cache: Path) -> None:
    fetched = in_cache(name, cache)
    wanted = Wanted(label=name)
    direct = loaded(wanted, lambda: fetched)
    mapped = loaded(wanted, never)
    assert_same(direct, mapped)
    assert mapped.provenance.sha256 is not None
    case = GoldenCase(name)
    wav = case.wavs[min(case.wavs)]
    with torch.inference_mode():
        assert torch.equal(direct([wav])[0], mapped([wav])[0])


def test_it_is_the_librarys_own_file_and_says_what_it_was_made_of(cache: Path) -> None:
    wanted = Wanted(label="t")
    loaded(wanted, lambda: in_cache("tera", cache))
    native = read_native(wanted.path)
    assert is_native(wanted.path)
    assert native.provenance.source_url == ORIGIN.source_url
    assert native.provenance.sha256 == file_sha256(TERA)
    assert native.extra["converter_version"] == str(CONVERTER_VERSION)
    assert file_sha256(TERA) in native.extra["conversion"]


def test_weights_are_mapped_not_copied(cache: Path) -> None:
    wanted = Wanted(label="t")
    loaded(wanted, lambda: in_cache("tera", cache))
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    encoder = loaded(wanted, never)
    spans = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in maps.read_text().splitlines()
        if line.endswith(wanted.path.name)
    ]
    for weight in encoder.state_dict().values():
        assert any(start <= weight.data_ptr() < end for start, end in spans)
    with torch.no_grad():  # and training cannot change the file
        next(encoder.parameters()).zero_()
    assert_same(loaded(wanted, never), loaded(wanted, never))
    assert next(loaded(wanted, never).parameters()).any()


def test_refresh_converts_again(cache: Path) -> None:
    fetched = in_cache("tera", cache)
    wanted = Wanted(label="t")
    loaded(wanted, lambda: fetched)
    shutil.copy(GoldenCase("apc").checkpoints[0], fetched.path)
    assert loaded(wanted, lambda: fetched, refresh=True).family == "apc"
    assert loaded(wanted, never).family == "apc"


def test_a_changed_original_is_converted_again(cache: Path) -> None:
    fetched = in_cache("tera", cache)
    wanted = Wanted(label="t")
    loaded(wanted, lambda: fetched)
    shutil.copy(GoldenCase("apc").checkpoints[0], fetched.path)
    assert loaded(wanted, lambda: fetched).family == "apc"


def test_a_configuration_of_its_own_counts(cache: Path) -> None:
    fetched = in_cache("pase", cache)
    (config,) = fetched.path.parent.glob("*.cfg")
    fetched = Fetched(path=fetched.path, provenance=ORIGIN, config=config)
    wanted = Wanted(label="p")
    loaded(wanted, lambda: fetched)
    assert find_conversion(wanted) is not None
    config.write_text(config.read_text() + "\n")
    assert find_conversion(wanted) is None
    one, other = ({"a": 1}, {"a": 2})
    assert conversions.configuration_sha256(one) != conversions.configuration_sha256(other)
    assert conversions.configuration_sha256(None) is None
    with pytest.raises(CheckpointError, match="cannot be read"):
        conversions.configuration_sha256(cache / "missing.cfg")


def test_an_original_that_is_not_what_was_downloaded_is_refused(cache: Path) -> None:
    fetched = in_cache("tera", cache)
    pin(fetched.path, "ab" * 32)
    with pytest.raises(ChecksumError, match=r"but was abab.*refresh=True"):
        loaded(Wanted(label="t"), lambda: fetched)
    pin(fetched.path, file_sha256(fetched.path))
    with pytest.raises(ChecksumError, match="expected cdcd"):
        loaded(Wanted(label="t", sha256="cdcd"), lambda: fetched)


@pytest.mark.parametrize("spoil", ["cut", "flip", "no note", "rubbish", "another's note"])
def test_a_damaged_conversion_is_made_again(spoil: str, cache: Path) -> None:
    fetched = in_cache("tera", cache)
    wanted = Wanted(label="t")
    direct = loaded(wanted, lambda: fetched)
    content = bytearray(wanted.path.read_bytes())
    if spoil == "cut":
        wanted.path.write_bytes(content[:-1])
    elif spoil == "flip":
        content[-1] ^= 1
        wanted.path.write_bytes(content)
    elif spoil == "rubbish":
        wanted.path.write_bytes(b"\xff" * len(content))
    elif spoil == "no note":
        note_path(wanted.path).unlink()
    else:
        other = Wanted(label="u")
        loaded(other, lambda: in_cache("apc", cache))
        shutil.copy(note_path(other.path), note_path(wanted.path))
    assert_same(loaded(wanted, lambda: fetched), direct)
    assert_same(loaded(wanted, never), direct)


def test_a_disk_that_is_full_costs_the_conversion_only(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fill_up(path: Path, weights: object, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    fetched = in_cache("tera", cache)
    monkeypatch.setattr("auricle.files.safetensors.write_safetensors", fill_up)
    encoder = loaded(Wanted(label="t"), lambda: fetched)
    assert encoder.provenance.sha256 == file_sha256(TERA)
    assert "not kept, so the next load converts it again" in caplog.text
    assert "No space left" in caplog.text
    assert "AURICLE_CACHE" in caplog.text
    assert [path.suffix for path in (cache / "converted").iterdir()] == [".lock"]


def test_a_cache_that_takes_no_folder_costs_the_conversion_only(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetched = in_cache("tera", cache)
    (cache / "converted").write_bytes(b"")
    assert loaded(Wanted(label="t"), lambda: fetched).family == "tera"
    assert "is not kept" in caplog.text


def test_what_lies_elsewhere_or_is_our_own_is_not_converted(cache: Path, tmp_path: Path) -> None:
    elsewhere = Fetched(path=TERA, provenance=ORIGIN)
    encoder = loaded(Wanted(label="t"), lambda: elsewhere)
    own = cache / "own.safetensors"
    encoder.save(own)
    loaded(Wanted(label="t"), lambda: Fetched(path=own, provenance=ORIGIN))
    auricle.load(own)
    assert not (cache / "converted").exists()


def test_debris_of_a_killed_writer_is_swept(cache: Path) -> None:
    wanted, other = Wanted(label="t"), Wanted(label="u")
    wanted.path.parent.mkdir(parents=True)
    names = [wanted.path, note_path(wanted.path), other.path]
    debris = [path.with_name(f".{path.name}.x1y2z3") for path in names]
    for path in debris:
        path.write_bytes(b"half")
    loaded(wanted, lambda: in_cache("tera", cache))
    # That of another conversion may be of a process that is writing it.
    assert [path.exists() for path in debris] == [False, False, True]


def test_a_name_loads_without_its_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    record = search.find("tera")
    path = cached_path(record)
    path.parent.mkdir(parents=True)
    shutil.copy(TERA, path)
    direct = auricle.load("tera")
    path.unlink()
    mapped = auricle.load("tera")
    assert_same(direct, mapped)
    assert (mapped.info.name, mapped.info.licence) == (record.name, record.licence)
    with pytest.raises(DownloadError, match="refreshed"):
        auricle.load("tera", refresh=True)


def test_a_url_is_converted_once_for_each_family_that_is_asked_for(
    server: Any, reply: Any, cache: Path
) -> None:
    url = server.say("/a.ckpt", reply(body=TERA.read_bytes()))
    direct = auricle.load(url)
    assert_same(direct, auricle.load(url))
    assert auricle.load("tera_100hr", checkpoint=url).info.name == "tera_100hr"
    assert len(list((cache / "converted").glob("*.safetensors"))) == 2
    with pytest.raises(CheckpointError, match="not of apc"):
        auricle.load("apc", checkpoint=url)
    assert len(server.requests) == 1
