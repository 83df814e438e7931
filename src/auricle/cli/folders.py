"""Is there a place to write to?"""

from __future__ import annotations

import os
from pathlib import Path

from auricle.errors import OutputError


def check_folder(folder: Path) -> None:
    """Find out before any work whether outputs can be written below `folder`; makes nothing.

    Raises:
        OutputError: It or a folder above it is a file, or may not be written to.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if _exists(path))
    if not existing.is_dir():
        raise OutputError(f"cannot write to {folder}: {existing} is a file; choose another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write to {folder}: no permission for {existing}; choose a folder that you may "
            "write to"
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise OutputError(
            f"cannot write to {path}: {error.strerror}; choose another folder"
        ) from error
