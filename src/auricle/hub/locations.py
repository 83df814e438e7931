"""Where a user's own checkpoint is: URLs, and `hf://` repositories. Touches no network."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from urllib.parse import unquote

from auricle.catalogue.plug_in_records import plug_in_names
from auricle.catalogue.search import is_name
from auricle.errors import DownloadError

CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
"""Endings of file names that can only be meant as checkpoints."""

SCHEME = "hf://"
SLASH_IN_REVISION = "%2F"

_LOCATION = re.compile(r"(?:[a-z][a-z0-9+.-]*://|file:)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepositoryUrl:
    """What a URL `hf://owner/name[@revision][/file]` says.

    `repository` is `owner/name`, `revision` a branch, tag or commit, None for the main branch,
    and `file` a file's path inside the repository, None where none is named.
    """

    repository: str
    revision: str | None = None
    file: str | None = None


def is_location(value: object) -> bool:
    """Whether `value` is meant as a URL, not as a name of the catalogue or a path."""
    return isinstance(value, str) and _LOCATION.match(value) is not None


def is_repository_url(url: str) -> bool:
    """Whether `url` is of the kind `hf://`."""
    return url.lower().startswith(SCHEME)


def parse_repository_url(url: str) -> RepositoryUrl:
    """What `hf://owner/name[@revision][/file]` says.

    The revision may be `refs%2Fpr%2F1`; other characters may be written as `%20` too.

    Raises:
        DownloadError: It is of another form, or a part of it would lead elsewhere.
    """
    owner, _, rest = url[len(SCHEME) :].partition("/")
    head, has_file, tail = rest.partition("/")
    name, has_revision, revision = head.partition("@")
    for part in (owner, name):
        if not _NAME.fullmatch(part) or ".." in part:
            raise _malformed(url, f"{part!r} is no name of an owner or a repository")
    parts = [unquote(part) for part in tail.split("/")] if has_file else []
    branches = unquote(revision).split("/") if has_revision else []
    for part in (*parts, *branches):
        if part in ("", ".", "..") or set(part) & set("/\\\0"):
            raise _malformed(url, f"{part!r} is no part of a file's or a revision's name")
    return RepositoryUrl(
        repository=f"{owner}/{name}",
        revision="/".join(branches) or None,
        file="/".join(parts) or None,
    )


def repository_hint(value: str | Path) -> str:
    """What to add to "does not exist" where `value` may be meant as `owner/name` of a hub."""
    if isinstance(value, Path) and value.is_absolute():
        return ""
    owner, _, name = str(value).partition("/")
    if not (_NAME.fullmatch(owner) and _NAME.fullmatch(name)):
        return ""
    return f"; a repository of Hugging Face is written {SCHEME}{owner}/{name}"


def _malformed(url: str, problem: str) -> DownloadError:
    return DownloadError(
        f"{url!r} cannot be fetched: {problem}; expected {SCHEME}owner/name[@revision][/file], "
        f"with {SLASH_IN_REVISION} for a slash in the revision"
    )


def looks_like_path(value: str | Path) -> bool:
    """Whether `value` is meant as a path of a checkpoint, not as a name of the catalogue.

    A name of the catalogue wins over a file or folder of that name in the current folder (write
    `./tera` for the folder). What has a separator or ends like a checkpoint is a path even where
    nothing exists there, so that a mistyped path is reported as a path. A URL is neither.
    """
    if isinstance(value, Path):
        return True
    if is_name(value) or is_location(value):
        return False
    separators = {"/", os.sep, os.altsep or os.sep}
    if any(separator in value for separator in separators):
        return True
    if value.lower().endswith(CHECKPOINT_SUFFIXES):
        return True
    return _exists(value) and value not in plug_in_names()


def _exists(value: str) -> bool:
    try:
        return value != "" and Path(value).exists()
    except (OSError, ValueError):  # too long, or with a null character: no path, then
        return False
