"""Repositories in the format of Hugging Face, through its own client and into our cache."""

from __future__ import annotations

from pathlib import Path

from auricle.errors import DownloadError
from auricle.hub.cache import cache_folder, offline_variable

SCHEME = "hf://"
CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""In order of preference; the first that the repository has is fetched."""


def fetch_repository(url: str, *, refresh: bool = False) -> Path:
    """The folder of a repository `hf://owner/name`: its configuration and its weights.

    Args:
        url: Which one.
        refresh: Download again what is in the cache.

    Raises:
        DownloadError: It cannot be fetched, or is not in the cache while the network may not be
            used.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
    )

    offline = offline_variable()
    # With the network, "not in the cache" means a failure. Without, a file that is not there was
    # not there at the download either: the weights, which prove that there was one, come last.
    absent = RemoteEntryNotFoundError if offline is None else LocalEntryNotFoundError

    def fetch(name: str) -> Path | None:
        try:
            path = hf_hub_download(
                url.removeprefix(SCHEME),
                name,
                cache_dir=cache_folder() / "huggingface",
                force_download=refresh,
                local_files_only=offline is not None,
            )
        except absent:
            return None
        return Path(path)

    try:
        config = fetch(CONFIG_FILE)
        fetch(PREPROCESSOR_FILE)
        weights = next((path for path in map(fetch, WEIGHT_FILES) if path is not None), None)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DownloadError(f"{url}: {error}") from error
    if config is None or weights is None:
        missing = CONFIG_FILE if config is None else " and ".join(WEIGHT_FILES)
        if offline:
            raise DownloadError(
                f"{url} is not in the cache (it lacks {missing}), and {offline} forbids the network"
            )
        raise DownloadError(f"{url} lacks {missing}")
    return config.parent
