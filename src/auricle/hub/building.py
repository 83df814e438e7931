"""`build`: an encoder of a published size with random weights."""

from __future__ import annotations

import difflib

import torch

from auricle.errors import UnknownModelError
from auricle.hub.records import RECORDS
from auricle.models.base import Config, Encoder
from auricle.models.families import FAMILIES
from auricle.outputs import Provenance


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
    """
    family, config = _by_name(size) if isinstance(size, str) else (_family_of(size), size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = FAMILIES[family].encoder_type()(config)
    if isinstance(size, str):
        encoder.provenance = Provenance(name=size)
    return encoder.eval()


def list_sizes() -> dict[str, str]:
    """Every published size and the family it is of, by name."""
    return {
        name: stem for stem, family in FAMILIES.items() for name in family.encoder_module().PRESETS
    }


def _by_name(name: str) -> tuple[str, Config]:
    sizes = list_sizes()
    published = {known: record.size for record in RECORDS for known in record.names}
    name = name if name in sizes else published.get(name) or name
    if name not in sizes:
        close = difflib.get_close_matches(name, sizes, n=3)
        hint = f"; close matches: {', '.join(close)}" if close else ""
        raise UnknownModelError(
            f"no size is called {name!r}{hint}; auricle.list_sizes() gives all of them"
        )
    config: Config = FAMILIES[sizes[name]].encoder_module().PRESETS[name]
    return sizes[name], config


def _family_of(config: Config) -> str:
    for stem, family in FAMILIES.items():
        if family.encoder_type().config_type is type(config):
            return stem
    raise UnknownModelError(
        f"{type(config).__name__} is the config of no family; expected one of {', '.join(FAMILIES)}"
    )
