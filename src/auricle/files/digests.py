"""Sha256 digests of files, and those pinned beside downloaded files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from auricle.errors import ChecksumError

SHA256_DIGITS = 64
"""Hex digits of a whole sha256."""

READ_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def checked_digits(digest: str | None, min_digits: int = SHA256_DIGITS) -> str | None:
    """Check a given sha256, or the beginning of one; returns it in lower case, None for None.

    Raises:
        ChecksumError: It is not hex, or has fewer than `min_digits` or more than 64 digits.
    """
    if digest is None:
        return None
    if not re.fullmatch(rf"[0-9a-fA-F]{{{min_digits},{SHA256_DIGITS}}}", digest):
        raise ChecksumError(f"a sha256 has {SHA256_DIGITS} hex digits, but {digest!r} was given")
    return digest.lower()


def pin(path: Path, digest: str) -> None:
    """Pin a file's digest: write it beside the file, in the format of `sha256sum`."""
    _note(path).write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def unpin(path: Path) -> None:
    """Remove the pinned digest of a file."""
    _note(path).unlink(missing_ok=True)


def pinned_sha256(path: Path) -> str | None:
    """Read the pinned digest of a file; None where there is none."""
    try:
        line = _note(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    match = re.match(rf"[0-9a-f]{{{SHA256_DIGITS}}}\b", line)
    return match[0] if match else None


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
