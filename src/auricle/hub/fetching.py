"""A user's own checkpoint from a URL, and what is known about where it came from."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from auricle.checkpoints.options import Configuration
from auricle.hub.digests import file_sha256, pinned_sha256
from auricle.hub.download import fetch_url
from auricle.hub.locations import is_repository_url
from auricle.hub.repositories import fetch_snapshot
from auricle.models.base import Config
from auricle.outputs import Provenance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetched:
    """A checkpoint on this machine, a file or the folder of a model, and its origin.

    `config` is its configuration where that is a file of its own, `published` that of the size
    that it must have where it turns out to hold bare tensors.
    """

    path: Path
    provenance: Provenance
    config: Configuration | None = None
    published: Config | None = None


def fetch_location(url: str, *, sha256: str | None = None, refresh: bool = False) -> Fetched:
    """The checkpoint at a URL: `https:`, `http:`, `file:` or `hf://owner/name[@revision][/file]`.

    Args:
        url: Where it is. What came over https or http is kept in the cache under its URL and not
            asked for again; a branch of a repository is looked up each time.
        sha256: The digest that a single file must have, in hex.
        refresh: Download again what is in the cache.

    Raises:
        DownloadError: The URL is of no use, or does not give the file.
        ChecksumError: What came is not what came the first time.
    """
    if is_repository_url(url):
        snapshot = fetch_snapshot(url, refresh=refresh)
        digest = None if snapshot.weights is None else _blob_sha256(snapshot.weights)
        return Fetched(
            path=snapshot.path, provenance=Provenance(source_url=snapshot.url, sha256=digest)
        )
    path = fetch_url(url, sha256=sha256, refresh=refresh)
    is_in_place = urlsplit(url).scheme == "file"
    # A note of another program beside the user's own file is no proof of what the file holds.
    digest = (None if is_in_place else pinned_sha256(path)) or file_sha256(path)
    return Fetched(
        path=path, provenance=Provenance(source_url=without_password(url), sha256=digest)
    )


def _blob_sha256(path: Path) -> str:
    """The digest of a file of the hub: large ones are kept under it."""
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else file_sha256(path)


def without_password(url: str) -> str:
    """The URL less user and password, for it is written into files that others get."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
