"""The catalogue: names of models, and what each name means."""

from __future__ import annotations

import difflib
import fnmatch
import logging
import os
from pathlib import Path

from auricle.errors import PlugInError, UnknownModelError
from auricle.hub.locations import is_location
from auricle.hub.plug_in_records import plug_in_names, plug_in_record, plug_in_records
from auricle.hub.records import RECORDS, Record
from auricle.models.families import find_family, is_family, plug_in_families

logger = logging.getLogger(__name__)

CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
"""Endings of file names that can only be meant as checkpoints."""

_BY_NAME = {name: record for record in RECORDS for name in record.names}


def find(name: str) -> Record:
    """The record of a model, by its name or an alias.

    Raises:
        UnknownModelError: No model has that name; the message lists those that are close.
        PlugInError: A plug-in has that name, and is broken.
    """
    record = _BY_NAME.get(name) or plug_in_record(name)
    if record is not None:
        return record
    if is_family(name):
        find_family(name)  # the plug-in that adds it may be broken
        raise UnknownModelError(
            f"{name} is a family without a model of its name: pass one of its checkpoints, "
            f'load("{name}", checkpoint="/path/to/file"), or take a model that `auricle list '
            f"--family {name}` shows"
        )
    raise UnknownModelError(f"no model is called {name!r}{_suggestion(name)}; see `auricle list`")


def _suggestion(name: str) -> str:
    lowered = {known.lower(): known for known in (*_BY_NAME, *plug_in_names())}
    close = difflib.get_close_matches(name.lower(), lowered, n=3)
    return f"; close matches: {', '.join(lowered[match] for match in close)}" if close else ""


def list_models(pattern: str = "*", *, family: str | None = None) -> list[str]:
    """Names of the models, by publication date of their papers, then by name; baselines last.

    Models of plug-ins are among them; a plug-in that is broken is left out with a warning.

    Args:
        pattern: A shell pattern (`tera*`, in any case); a model is listed, under its own name,
            when its name or one of its aliases matches.
        family: List this family only.

    Raises:
        UnknownModelError: There is no such family.
    """
    records, problems = select(pattern, family=family)
    for problem in problems:
        logger.warning("%s", problem)
    return [record.name for record in records]


def select(
    pattern: str = "*", *, family: str | None = None
) -> tuple[list[Record], list[PlugInError]]:
    """The records that `list_models` names, and what is wrong with plug-ins that are broken.

    Raises:
        UnknownModelError: There is no such family.
        PlugInError: The plug-in that adds that family is broken.
    """
    if family is not None:
        find_family(family)
    added, problems = plug_in_records()
    families_problems = plug_in_families()[1]
    chosen = [
        record
        for record in (*RECORDS, *added)
        if family in (None, record.family)
        and any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in record.names)
    ]
    chosen.sort(key=lambda record: (not record.released, record.released, record.name))
    # A broken family is told once, not again for each of its records.
    told = {str(problem): problem for problem in (*families_problems, *problems)}
    return chosen, list(told.values())


def looks_like_path(value: str | Path) -> bool:
    """Whether `value` is meant as a path of a checkpoint, not as a name of the catalogue.

    A name of the catalogue wins over a file or folder of that name in the current folder (write
    `./tera` for the folder). What has a separator or ends like a checkpoint is a path even where
    nothing exists there, so that a mistyped path is reported as a path. A URL is neither.
    """
    if isinstance(value, Path):
        return True
    if value in _BY_NAME or is_location(value):
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
