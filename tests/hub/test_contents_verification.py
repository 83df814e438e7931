"""A flipped byte is found wherever it is."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

import auricle
from auricle.catalogue import search
from auricle.errors import UnknownModelError
from auricle.files.atomic import file_sha256, pin
from auricle.hub import cache as cache_module
from auricle.hub import contents
from auricle.hub.cache import cached_path, conversions_folder, embedded_path
from auricle.hub.contents import Finding, verify
from golden_cases import GoldenCase


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> Path:
    """TERA, downloaded and loaded once."""
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    path = cached_path(search.find("tera"))
    path.parent.mkdir(parents=True)
    shutil.copy(GoldenCase("tera").checkpoints[0], path)
    pin(path, file_sha256(path))
    auricle.load("tera")
    return path


def flip(path: Path) -> None:
    """Change one bit as a disk would: without a trace in the file's time."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def states(*names: str) -> dict[str, str]:
    return {finding.path.suffix: finding.state for finding in verify(names)}


def changed(*names: str) -> list[Finding]:
    return [finding for finding in verify(names) if finding.state == "changed"]


def test_what_has_not_changed_is_whole(original: Path) -> None:
    assert states("tera") == {".ckpt": "whole", ".safetensors": "whole"}
    embedded = [finding for finding in verify() if finding.path.parent.name == "pretrained"]
    assert {finding.state for finding in embedded} == {"whole"}
    assert len(embedded) == sum(record.embedded for record in search.RECORDS)


def test_a_flipped_byte_of_an_original(original: Path) -> None:
    flip(original)
    (finding,) = changed("tera")
    assert finding.path == original
    assert "sha256" in finding.reason
    assert "auricle cache remove tera_960hr --originals" in finding.remedy


def test_a_flipped_byte_of_a_conversion(original: Path) -> None:
    (path,) = conversions_folder().glob("*.safetensors")
    flip(path)
    (finding,) = changed()
    assert finding.path == path
    assert "auricle cache remove tera_960hr --converted" in finding.remedy


def test_a_flipped_byte_of_an_embedded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = next(record for record in search.RECORDS if record.embedded)
    copy = tmp_path / "copy.safetensors"
    shutil.copy(embedded_path(record), copy)
    monkeypatch.setattr(contents, "embedded_path", lambda _: copy)
    assert changed(record.name) == []
    flip(copy)
    (finding,) = changed(record.name)
    assert finding.remedy == "install auricle again"
    copy.unlink()
    (finding,) = changed(record.name)
    assert "cannot be read" in finding.reason


def test_a_flipped_byte_of_a_repository(cache: Path) -> None:
    blobs = cache / "huggingface" / "models--facebook--hubert-base-ls960" / "blobs"
    blobs.mkdir(parents=True)
    content = b"content"
    large = blobs / hashlib.sha256(content).hexdigest()
    small = blobs / hashlib.sha1(b"blob 7\0" + content).hexdigest()
    for blob in (large, small):
        blob.write_bytes(content)
    assert len(list(verify(("hubert",)))) == 2
    for blob in (large, small):
        assert changed("hubert") == []
        flip(blob)
        (finding,) = changed("hubert")
        assert finding.path == blob
        assert "cache remove hubert_base --originals" in finding.remedy
        flip(blob)


def test_what_was_put_there_by_hand_has_no_digest_until_it_is_converted(original: Path) -> None:
    original.with_name(f"{original.name}.sha256").unlink()
    assert states("tera")[".ckpt"] == "whole"
    shutil.rmtree(conversions_folder())
    assert states("tera") == {".ckpt": "unknown"}


def test_the_note_of_a_conversion_does_not_speak_for_a_newer_original(original: Path) -> None:
    # A refresh was killed after the new file took its place, before its digest was pinned.
    original.with_name(f"{original.name}.sha256").unlink()
    new = original.with_name("new")
    shutil.copy(GoldenCase("apc").checkpoints[0], new)
    new.replace(original)
    assert states("tera") == {".ckpt": "unknown", ".safetensors": "whole"}


def test_notes_are_not_read_again_for_each_file(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    read_note = cache_module.read_note

    def count(path: Path) -> cache_module.Conversion | None:
        read.append(path)
        return read_note(path)

    monkeypatch.setattr(cache_module, "read_note", count)
    num_files = len(list(verify()))
    num_read = len(read)
    for name in ("apc_360hr", "npc_360hr"):
        original.with_name(f"{name}.ckpt").write_bytes(b"put there by hand")
    read.clear()
    assert len(list(verify())) == num_files + 2
    assert len(read) == num_read


def test_a_digest_on_record_counts(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cached_path(search.find("modified_cpc"))
    path.write_bytes(b"not this one")
    (finding,) = changed("cpc")
    assert "expected d0f474de" in finding.reason


def test_unknown_names(original: Path) -> None:
    with pytest.raises(UnknownModelError):
        list(verify(("terra",)))
    assert list(verify(("https://host/never-fetched",))) == []
