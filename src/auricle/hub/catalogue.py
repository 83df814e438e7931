"""The catalogue: names of models, and what each name means."""

from __future__ import annotations

import difflib
import fnmatch
import os
from pathlib import Path

from auricle.errors import UnknownModelError
from auricle.hub.records import RECORDS, Record
from auricle.models.families import FAMILIES

CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
"""Endings of file names that can only be meant as checkpoints."""

_BY_NAME = {name: record for record in RECORDS for name in record.names}


def find(name: str) -> Record:
    """The record of a model, by its name or an alias.

    Raises:
        UnknownModelError: No model has that name; the message lists those that are close.
    """
    record = _BY_NAME.get(name)
    if record is None:
        raise UnknownModelError(
            f"no model is called {name!r}{_suggestion(name)}; see `auricle list`"
        )
    return record


def _suggestion(name: str) -> str:
    lowered = {known.lower(): known for known in _BY_NAME}
    close = difflib.get_close_matches(name.lower(), lowered, n=3)
    return f"; close matches: {', '.join(lowered[match] for match in close)}" if close else ""


def list_models(pattern: str = "*", *, family: str | None = None) -> list[str]:
    """Names of the models, by publication date of their papers, then by name; baselines last.

    Args:
        pattern: A shell pattern (`tera*`); a model is listed, under its own name, when its name
            or one of its aliases matches.
        family: List this family only.

    Raises:
        UnknownModelError: There is no such family.
    """
    if family is not None and family not in FAMILIES:
        raise UnknownModelError(
            f"no family is called {family!r}; expected one of {', '.join(FAMILIES)}"
        )
    chosen = [
        record
        for record in RECORDS
        if family in (None, record.family)
        and any(fnmatch.fnmatchcase(name, pattern) for name in record.names)
    ]
    chosen.sort(key=lambda record: (not record.released, record.released, record.name))
    return [record.name for record in chosen]


def looks_like_path(value: str | Path) -> bool:
    """Whether `value` is meant as a path of a checkpoint, not as a name of the catalogue.

    A name of the catalogue wins over a file or folder of that name in the current folder (write
    `./tera` for the folder). What has a separator or ends like a checkpoint is a path even where
    nothing exists there, so that a mistyped path is reported as a path.
    """
    if isinstance(value, Path):
        return True
    if value in _BY_NAME:
        return False
    separators = {"/", os.sep, os.altsep or os.sep}
    if any(separator in value for separator in separators):
        return True
    return value.lower().endswith(CHECKPOINT_SUFFIXES) or _exists(value)


def _exists(value: str) -> bool:
    try:
        return value != "" and Path(value).exists()
    except (OSError, ValueError):  # too long, or with a null character: no path, then
        return False
