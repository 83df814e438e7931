"""Fetch repositories of Hugging Face with its own client, to the library's cache."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies

from auricle.errors import DownloadError
from auricle.files.safetensors import is_native
from auricle.hub.cache import REPOSITORIES, cache_folder, offline_variable
from auricle.hub.http import Limits, no_network
from auricle.hub.location import (
    CONFIG_FILE,
    SCHEME,
    SLASH_IN_REVISION,
    WEIGHT_FILES,
    RepositoryUrl,
    parse_repository_url,
)

logger = logging.getLogger(__name__)

PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
ADAPTER_CONFIG_FILE = "adapter_config.json"
INDEX_SUFFIX = ".index.json"
"""Suffix of the list of files of sharded weights."""

PORTS = {"http": 80, "https": 443}
GET_ANYWAY = (
    "try again when the network is there, or get the files by other means and load their folder"
)
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Files of a repository in the cache, all of one commit.

    `path` is the file, or the folder of a model, to load; `weights` the one file with the weights,
    None for sharded ones; `url` includes the commit, where it is known.
    """

    path: Path
    weights: Path | None
    url: str


def fetch_repository(url: str, *, refresh: bool = False) -> Path:
    """Fetch a repository to the cache; returns the path to load, that of `fetch_snapshot`."""
    return fetch_snapshot(url, refresh=refresh).path


def fetch_snapshot(url: str, *, refresh: bool = False) -> Snapshot:
    """Fetch configuration and weights of a repository `hf://owner/name[@revision][/file]`.

    Without a file the weights must have their usual names (`WEIGHT_FILES`); where there is no
    configuration they must be the library's own checkpoint. With a file that one is fetched, and
    configurations beside it.

    Args:
        url: The repository. A branch is looked up each time, for it may have moved.
        refresh: Download files again that are in the cache.

    Raises:
        DownloadError: The URL is malformed; a file, the revision or the repository is not there
            or may not be read; the network fails, or may not be used and a file is not in the
            cache.
    """
    session = _Session(url, parse_repository_url(url), refresh)
    file = session.wanted.file
    if file is not None:
        beside = PurePosixPath(file).parent
        session.fetch_configurations(beside)
        path = session.fetch(file)
        if path is None:
            session.refuse(file)
        return Snapshot(path=path, weights=path, url=session.resolved_url)
    has_config = session.fetch_configurations(PurePosixPath())
    weights = session.fetch_weights()
    adapter = None if weights else session.fetch(ADAPTER_CONFIG_FILE)
    if adapter is not None:
        return Snapshot(path=adapter, weights=None, url=session.resolved_url)
    if not weights:
        session.refuse(" and ".join(WEIGHT_FILES) if has_config else CONFIG_FILE)
    if not has_config and not is_native(weights[0]):
        session.refuse(CONFIG_FILE)
    # The library's own file has its configuration in its metadata, whatever lies beside it.
    path = weights[0] if is_native(weights[0]) else weights[0].parent
    return Snapshot(
        path=path,
        weights=weights[0] if len(weights) == 1 else None,
        url=session.resolved_url,
    )


class RepositoryError(DownloadError):
    """A repository that cannot be fetched: the reason, and advice."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reason = reason


class _Session:
    """Files fetched one after the other, all from the commit of the first one."""

    def __init__(self, url: str, wanted: RepositoryUrl, refresh: bool) -> None:
        self.url = url
        self.wanted = wanted
        self.refresh = refresh
        self.offline = offline_variable()
        self.commit: str | None = None
        self.unreachable = None if self.offline else unreachable_reason()
        if refresh and self.offline:
            raise DownloadError(
                f"{url} cannot be refreshed: {self.offline} forbids the network; unset it"
            )
        if refresh and self.unreachable:
            raise RepositoryError(f"{url} cannot be refreshed: {self.unreachable}", GET_ANYWAY)

    @property
    def resolved_url(self) -> str:
        """The URL with the commit in place of a branch or tag."""
        revision = (self.commit or self.wanted.revision or "").replace("/", SLASH_IN_REVISION)
        at = f"@{revision}" if revision else ""
        file = f"/{self.wanted.file}" if self.wanted.file else ""
        return f"{SCHEME}{self.wanted.repository}{at}{file}"

    def fetch(self, name: str) -> Path | None:
        """Fetch one file of the repository; None where it does not exist."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

        # With the network, "not in the cache" means a failure. Without, a missing file was missing
        # at the download too: the weights, which prove that there was a download, come last.
        is_local = bool(self.offline or self.unreachable)
        absent = LocalEntryNotFoundError if is_local else RemoteEntryNotFoundError
        folder = cache_folder() / REPOSITORIES
        with _explained(self.url, self.wanted), _retries_in_one_line(self.url):
            try:
                path = hf_hub_download(
                    self.wanted.repository,
                    name,
                    revision=self.commit or self.wanted.revision,
                    cache_dir=folder,
                    force_download=self.refresh,
                    local_files_only=is_local,
                )
            except absent:
                return None
        self.commit = self.commit or _commit(Path(path), folder)
        return Path(path)

    def fetch_configurations(self, folder: PurePosixPath) -> bool:
        """Fetch the configurations in a folder; True if the model's is among them."""
        config = self.fetch(str(folder / CONFIG_FILE))
        if self.fetch(str(folder / PREPROCESSOR_FILE)) is None and config is not None:
            self.fetch(str(folder / PROCESSOR_FILE))
        if config is not None:  # readers of the folder refuse weights with an adapter
            self.fetch(str(folder / ADAPTER_CONFIG_FILE))
        return config is not None

    def fetch_weights(self) -> list[Path]:
        """Fetch the weights under their usual names, in one file or sharded; none if missing.

        Raises:
            DownloadError: The list of shards is damaged, or one of them is missing.
        """
        for name in WEIGHT_FILES:
            path = self.fetch(name)
            if path is not None:
                return [path]
            index = self.fetch(f"{name}{INDEX_SUFFIX}")
            if index is not None:
                return [self.fetch(shard) or self.refuse(shard) for shard in _shards(index)]
        return []

    def refuse(self, missing: str) -> NoReturn:
        """Raise DownloadError because the repository lacks `missing`."""
        if self.offline:
            raise DownloadError(
                f"{self.url} is not in the cache (it lacks {missing}), and {self.offline} forbids "
                "the network; unset it"
            )
        if self.unreachable:
            raise RepositoryError(
                f"{self.url} is not in the cache, and {self.unreachable}", GET_ANYWAY
            )
        hint = ""
        if self.wanted.file is None:
            hint = (
                f"; another file of the repository is named like {SCHEME}"
                f"{self.wanted.repository}/folder/checkpoint.pt"
            )
        raise DownloadError(f"{self.url} lacks {missing}{hint}")


def unreachable_reason() -> str | None:
    """Test whether the hub's host can be reached; returns the reason why not, else None.

    With a proxy only the client can test that. Without a network the client tries for half a
    minute.
    """
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    if parts.hostname is None or getproxies().keys() & {"all", parts.scheme}:
        return None
    try:
        address = (parts.hostname, parts.port or PORTS.get(parts.scheme, 443))
        socket.create_connection(address, Limits().connect_seconds).close()
    except OSError as error:
        cause = no_network(error)
        if cause is not None:
            return f"{parts.hostname} cannot be reached ({cause.strerror}; is there a network?)"
    return None


@contextmanager
def _retries_in_one_line(url: str) -> Iterator[None]:
    """Log the client's warnings of retries once, not at each attempt, in this thread."""
    client = logging.getLogger("huggingface_hub.utils._http")
    thread, said = threading.get_ident(), False

    def keep(record: logging.LogRecord) -> bool:
        nonlocal said
        text = record.getMessage()
        is_retry = "thrown while requesting" in text or text.startswith("Retrying in ")
        if record.thread != thread or not is_retry:
            return True
        if not said:
            said = True
            reason = text.partition(" thrown while requesting")[0].strip("'")
            logger.warning("%s: %s; trying again for up to half a minute", url, reason)
        return False

    client.addFilter(keep)
    try:
        yield
    finally:
        client.removeFilter(keep)


@contextmanager
def _explained(url: str, wanted: RepositoryUrl) -> Iterator[None]:
    """Convert the client's errors to a DownloadError with advice."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # Releases of the client differ in the HTTP library whose errors they let through.
    http_error = HfHubHTTPError.__mro__[1]
    assert issubclass(http_error, Exception)
    name = wanted.repository
    try:
        yield
    except GatedRepoError as error:
        raise DownloadError(
            f"{url}: {name} is for those whom its owner admits: ask for access at "
            f"https://huggingface.co/{name}, then {LOGIN}"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{url}: Hugging Face has no model {name}, or it is private; check the name, or {LOGIN}"
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"{url}: {name} has no revision {wanted.revision!r}; expected a branch, a tag or a "
            f"commit, with {SLASH_IN_REVISION} for a slash in it"
        ) from error
    except LocalEntryNotFoundError as error:
        # The cause of the client's failure is in the error before this one.
        cause = error.__cause__ or error
        reason = f"{url} is not in the cache and cannot be fetched: {_in_one_line(cause)}"
        raise RepositoryError(reason, _login_advice(cause) or GET_ANYWAY) from error
    except (http_error, OSError, ValueError, ImportError) as error:
        # An import fails where a proxy is named of a kind that needs another package.
        advice = _login_advice(error) or "load a local copy by its path instead"
        raise RepositoryError(f"{url}: {_in_one_line(error)}", advice) from error


def _login_advice(error: BaseException) -> str | None:
    """Advice where the server refuses the user; None for other errors."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return LOGIN if status in (401, 403) else None


def _in_one_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].strip(" .;") or type(error).__name__


def _commit(path: Path, folder: Path) -> str | None:
    """The commit in the path of a file in the client's cache: `models--*/snapshots/COMMIT/...`."""
    parts = path.relative_to(folder).parts if path.is_relative_to(folder) else ()
    if len(parts) > 3 and re.fullmatch(r"[0-9a-f]{40}", parts[2]):
        return parts[2]
    return None


def _shards(index: Path) -> list[str]:
    """Names of the files of sharded weights."""
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DownloadError(f"{index} is not a list of files of weights: {error!r}") from error
    if not names or any(not isinstance(name, str) or set(name) & set("/\\\0") for name in names):
        raise DownloadError(f"{index} must list names of files beside it, but lists {names}")
    return names
