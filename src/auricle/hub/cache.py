"""Where downloaded files are kept, and whether the network may be used."""

from __future__ import annotations

import os
from pathlib import Path

from auricle.errors import AuricleError

CACHE_VARIABLE = "AURICLE_CACHE"
OFFLINE_VARIABLES = ("AURICLE_OFFLINE", "HF_HUB_OFFLINE")
_YES = frozenset({"1", "true", "yes", "on"})


def cache_folder() -> Path:
    """The folder for downloaded files: `AURICLE_CACHE`, else the user's cache folder.

    The folder need not exist yet.

    Raises:
        AuricleError: `AURICLE_CACHE` names a file.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        folder = Path(chosen).expanduser().absolute()
        if folder.is_file():
            raise AuricleError(f"{CACHE_VARIABLE} is {folder}, a file; set it to a folder")
        return folder
    import platformdirs

    return Path(platformdirs.user_cache_dir("auricle", appauthor=False))


def offline_variable() -> str | None:
    """The environment variable that forbids the network, or None where none does."""
    for name in OFFLINE_VARIABLES:
        if os.environ.get(name, "").strip().lower() in _YES:
            return name
    return None


def is_offline() -> bool:
    """Whether `AURICLE_OFFLINE` or `HF_HUB_OFFLINE` forbids the network (1, true, yes or on)."""
    return offline_variable() is not None
