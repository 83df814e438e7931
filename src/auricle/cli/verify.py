"""`auricle verify`: compare cached files, or those of a store, with their digests."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.hub.location import is_location

if TYPE_CHECKING:
    from auricle.store.folder import Folder

SUMMARY = "verify the digests of cached files or of a store"
TEXT = """\
Verify the digests of cached files and of the models in the package, or those of a store of
representations.

Originals are compared with the catalogue and with the digest recorded when they were downloaded,
conversions with the digest recorded when they were written; files reported as unknown have no
recorded digest. For a changed file the command that repairs it is printed. The exit status is 1 if
a file has changed, or if a named model is not on this machine.

In a folder that `auricle extract` wrote, every file is compared with the digest recorded when it
was written; for a damaged one the repair is printed.
"""
EXAMPLES = """\
examples:
  auricle verify
  auricle verify tera hubert
  auricle verify features/
"""

MODEL_SCHEMES = ("http://", "https://", "hf://")
"""Schemes of URLs of models; others are URLs of stores."""

STATES = ("whole", "changed", "unknown", "missing")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the names of what to verify."""
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="models, URLs, or folders of representations (default: all cached and bundled models)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each file; the status is 1 if a file has changed or is missing.

    Raises:
        UnknownModelError: There is no such model.
        StoreError: A folder is not a store.
    """
    counts: Counter[str] = Counter()
    for name in arguments.names or (None,):
        counts += _verify_named(name) if name is not None else _verify_models(None)
    print(", ".join(f"{counts[state]} {state}" for state in STATES))
    return 1 if counts["changed"] or counts["missing"] else 0


def _verify_named(name: str) -> Counter[str]:
    folder = _store_folder(name)
    return _verify_models(name) if folder is None else _verify_store(name, folder)


def _verify_models(name: str | None) -> Counter[str]:
    from auricle.hub.contents import shown, verify

    counts: Counter[str] = Counter()
    for finding in verify(() if name is None else (name,)):
        counts[finding.state] += 1
        line = f"{finding.state:<8} {finding.name}  {shown(finding.path)}"
        print(f"{line}: {finding.reason}" if finding.reason else line)
        if finding.remedy:
            print(f"{'':<8} repair: {finding.remedy}")
    if name is not None and not counts:
        counts["missing"] += 1
        print(f"missing  {name}: not on this machine")
    return counts


def _store_folder(name: str) -> Folder | None:
    """Open the folder of a store by name; None if the name is that of a model."""
    from auricle.hub.location import looks_like_path
    from auricle.store.folder import LocalFolder, open_folder

    if is_location(name):
        folder = None if name.lower().startswith(MODEL_SCHEMES) else open_folder(name)
        is_file = isinstance(folder, LocalFolder) and not folder.path.is_dir()
        return None if is_file else folder
    is_store = looks_like_path(name) and Path(name).is_dir()
    return LocalFolder(Path(name)) if is_store else None


def _verify_store(name: str, folder: Folder) -> Counter[str]:
    from auricle.store.reader import open as open_store
    from auricle.store.verification import verify

    counts: Counter[str] = Counter()
    for damage in verify(folder):
        state = "missing" if damage.reason == "is not there" else "changed"
        counts[state] += 1
        print(f"{state:<8} {name}  {damage.file}: {damage.reason}")
        print(f"{'':<8} repair: {damage.remedy}")
    if not counts:
        counts["whole"] += 1
        store = open_store(name)
        line = f"{'whole':<8} {name}  {len(store)} utterances"
        unfinished = "; unfinished, run the same extraction to complete it"
        print(line if store.is_closed else f"{line}{unfinished}")
    return counts
