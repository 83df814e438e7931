"""`build`: an encoder of a published size with random weights."""

from __future__ import annotations

import difflib

import torch

from auricle.catalogue.family import FAMILIES, Family, find_family, plug_in_families
from auricle.catalogue.search import find, list_sizes
from auricle.checkpoints.checkpoint import build_encoder
from auricle.errors import PlugInError, UnknownModelError
from auricle.models.base import Config, Encoder
from auricle.outputs import RANDOM_WEIGHTS, Provenance


def build(size: str | Config, *, seed: int = 0) -> Encoder:
    """Build an encoder with random weights, for pretraining and for measurements.

    Args:
        size: Name of a published size (`list_sizes()`) or of a model of the catalogue, or a
            family's config.
        seed: Of the random weights; the global random state is left as it was.

    Returns:
        The encoder in eval mode, on the CPU, float32.

    Raises:
        UnknownModelError: No size has that name, or the config is of no family.
        PlugInError: The plug-in that the size or the config is of is broken.
    """
    family, config = _by_name(size) if isinstance(size, str) else (_family_of(size), size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(family, config, _provenance(size, family), name=_name(size))
    return encoder.eval()


def _name(size: str | Config) -> str | None:
    return size if isinstance(size, str) else None


def _provenance(size: str | Config, family: Family) -> Provenance:
    name = _name(size)
    if family.stem == "baseline":
        return Provenance(name=name)
    return Provenance(name=f"{name or family.stem} (random weights)", training_data=RANDOM_WEIGHTS)


def _by_name(name: str) -> tuple[Family, Config]:
    """The size of that name, or that of the model of that name."""
    for family in FAMILIES.values():  # first, so that no plug-in is imported for them
        if name in family.sizes:
            return family, family.preset(name)
    try:
        record = find(name)
    except UnknownModelError:
        record = None
    if record is not None and record.size is not None:
        family = find_family(record.family)
        return family, family.preset(record.size)
    sizes = list_sizes()
    if name in sizes:
        family = find_family(sizes[name])
        return family, family.preset(name)
    close = difflib.get_close_matches(name, sizes, n=3)
    hint = f"; close matches: {', '.join(close)}" if close else ""
    raise UnknownModelError(
        f"no size is called {name!r}{hint}; auricle.list_sizes() gives all of them"
    )


def _family_of(config: Config) -> Family:
    for family in FAMILIES.values():
        if family.config_type() is type(config):
            return family
    families, problems = plug_in_families()
    for family in families:
        try:
            if family.config_type() is type(config):
                return family
        except PlugInError as problem:
            problems.append(problem)
    unread = "".join(f"; {problem}" for problem in problems)
    raise UnknownModelError(
        f"{type(config).__name__} is the config of no family; expected one of "
        f"{', '.join([*FAMILIES, *(family.stem for family in families)])}{unread}"
    )
