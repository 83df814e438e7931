"""Digests of files and the notes of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from auricle.errors import ChecksumError
from auricle.files.atomic import checked_digits, file_sha256, pin, pinned_sha256, unpin


def test_the_digest_is_of_all_of_the_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than one read
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_note_is_in_the_format_of_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    assert pinned_sha256(path) is None
    pin(path, "0a" * 32)
    assert (tmp_path / "a.ckpt.sha256").read_text() == f"{'0a' * 32}  a.ckpt\n"
    assert pinned_sha256(path) == "0a" * 32
    unpin(path)
    unpin(path)
    assert pinned_sha256(path) is None


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\xfe", b"0a" * 31, b"0a" * 33])
def test_a_damaged_note_is_no_note(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt.sha256").write_bytes(content)
    assert pinned_sha256(tmp_path / "a.ckpt") is None


def test_stated_digests_are_checked() -> None:
    assert checked_digits(None) is None
    assert checked_digits("0A" * 32) == "0a" * 32
    assert checked_digits("D0F4", min_digits=1) == "d0f4"
    for wrong in ("", "0a", "xy" * 32, "0a" * 33):
        with pytest.raises(ChecksumError, match="64 hex digits"):
            checked_digits(wrong)
