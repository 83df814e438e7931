"""Ids as names of files: any id, no way out of the folder, no two the same."""

from __future__ import annotations

import hashlib
import re

MAX_COMPONENT_BYTES = 180
"""File systems take names of 255 bytes; suffixes and temporary names need some of them."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|%]')


def file_stem(utterance_id: str, suffix: str = "") -> str:
    """An id as a relative path without its suffix; slashes go on making folders.

    What is not allowed in names somewhere, would leave the folder, or would be hidden is
    percent-encoded; an empty component becomes "%". Folders never end in `suffix`, so that none
    is in the way of a file.
    """
    *folders, last = utterance_id.split("/")
    parts = [component(folder) for folder in folders]
    if suffix:
        parts = [_without_suffix(part, suffix) for part in parts]
    return "/".join([*parts, component(last)])


def component(text: str, *, also: str = "") -> str:
    """Text as one component of a path; the characters of `also` are percent-encoded too."""
    if not text:
        return "%"
    encoded = _UNSAFE.sub(_percent, text)
    for character in "/" + also:
        encoded = encoded.replace(character, f"%{ord(character):02X}")
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"
    if encoded.endswith((".", " ")):
        encoded = f"{encoded[:-1]}%{ord(encoded[-1]):02X}"
    return _shortened(encoded, text)


def _percent(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


def _shortened(encoded: str, text: str) -> str:
    """A name that is too long ends in a digest of what it stands for."""
    as_bytes = encoded.encode()
    if len(as_bytes) <= MAX_COMPONENT_BYTES:
        return encoded
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    kept = as_bytes[: MAX_COMPONENT_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{kept}%{digest}"


def _without_suffix(part: str, suffix: str) -> str:
    if not part.endswith(suffix):
        return part
    return f"{part.removesuffix(suffix)}%2E{suffix[1:]}"
