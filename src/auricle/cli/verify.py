"""`auricle verify`: whether what is cached, or in a store, is still what was written."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from auricle.extraction.store.checking import verify as verify_store
from auricle.extraction.store.folder import Folder, LocalFolder, open_folder
from auricle.extraction.store.reader import open as open_store
from auricle.hub.locations import is_location, looks_like_path
from auricle.hub.verification import shown, verify

MODEL_SCHEMES = ("http://", "https://", "hf://")
"""Where models come from; what lies behind any other is a store."""

STATES = ("whole", "changed", "unknown", "missing")


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each file; the status is 1 where one has changed,
    or where nothing is there of what was named.

    Raises:
        UnknownModelError: There is no such model.
        StoreError: A folder is named that is no store.
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
    counts: Counter[str] = Counter()
    for finding in verify(() if name is None else (name,)):
        counts[finding.state] += 1
        line = f"{finding.state:<8} {finding.name}  {shown(finding.path)}"
        print(f"{line}: {finding.reason}" if finding.reason else line)
        if finding.remedy:
            print(f"{'':<8} mend it: {finding.remedy}")
    if name is not None and not counts:
        counts["missing"] += 1
        print(f"missing  {name}: nothing of it is on this machine")
    return counts


def _store_folder(name: str) -> Folder | None:
    """The folder of the store that is named; None where a model is."""
    if is_location(name):
        folder = None if name.lower().startswith(MODEL_SCHEMES) else open_folder(name)
        is_file = isinstance(folder, LocalFolder) and not folder.path.is_dir()
        return None if is_file else folder
    is_store = looks_like_path(name) and Path(name).is_dir()
    return LocalFolder(Path(name)) if is_store else None


def _verify_store(name: str, folder: Folder) -> Counter[str]:
    counts: Counter[str] = Counter()
    for damage in verify_store(folder):
        state = "missing" if damage.reason == "is not there" else "changed"
        counts[state] += 1
        print(f"{state:<8} {name}  {damage.file}: {damage.reason}")
        print(f"{'':<8} mend it: {damage.remedy}")
    if not counts:
        counts["whole"] += 1
        store = open_store(name)
        line = f"{'whole':<8} {name}  {len(store)} utterances"
        goes_on = "; not closed, the same extraction goes on"
        print(line if store.is_closed else f"{line}{goes_on}")
    return counts
