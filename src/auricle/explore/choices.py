"""What the page offers: models, where their weights are, and their layers; imports no torch."""

from __future__ import annotations

import dataclasses

from auricle.catalogue import search
from auricle.catalogue.family import find_family
from auricle.catalogue.record import Record
from auricle.hub.availability import (
    Availability,
    availabilities,
    availability,
    known_num_bytes,
)

BYTES_PER_WEIGHT = 4

WHERE = {
    Availability.NOT_NEEDED: "no weights",
    Availability.EMBEDDED: "in the package",
    Availability.CACHED: "cached",
    Availability.DOWNLOAD: "would be downloaded",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """Names of a model's layers in order, and of the one it gives by default."""

    names: tuple[str, ...]
    default: str


NO_LAYERS = Layers(names=(), default="")
"""Of no model, and of one whose layers are known only once it is downloaded."""


def list_choices() -> list[tuple[str, str]]:
    """What is read, and the name that it stands for, of every model that can be had.

    Those that work offline come first; the order is that of the catalogue otherwise.
    """
    records = [search.find(name) for name in search.list_models()]
    states = zip(records, availabilities(records), strict=True)
    offered = [pair for pair in states if pair[1] in WHERE]
    offered.sort(key=lambda pair: not pair[1].works_offline)
    return [(f"{record.name} ({WHERE[state]})", record.name) for record, state in offered]


def must_be_downloaded(name: str) -> bool:
    """Whether drawing with a model would ask the network for its weights."""
    return availability(search.find(name)) is Availability.DOWNLOAD


def describe_choice(name: str) -> str:
    """A sentence about where the weights of a model are, and what a download would take."""
    record = search.find(name)
    state = availability(record)
    if state is Availability.DOWNLOAD:
        return f"{name} would be downloaded: {describe_size(record)}."
    num_bytes = known_num_bytes(record)
    size = f", {_megabytes(num_bytes)}" if num_bytes is not None else ""
    return f"{name}: {WHERE[state]}{size}."


def describe_size(record: Record) -> str:
    """How large a download is, or at least how large its weights are."""
    num_bytes = known_num_bytes(record)
    if num_bytes is not None:
        return _megabytes(num_bytes)
    if record.size is None:
        return "of a size that is not on record"
    from auricle.checkpoints.checkpoint import blank_encoder

    family = find_family(record.family)
    encoder = blank_encoder(family, family.preset(record.size))
    weights = _megabytes(encoder.info.num_parameters * BYTES_PER_WEIGHT)
    return f"the file's size is not on record, its encoder alone has {weights} of weights"


def list_layers(name: str) -> Layers:
    """The layers of a model: of its published size, or else of its weights, which are loaded.

    Raises:
        AuricleError: It cannot be loaded.
    """
    from auricle.checkpoints.checkpoint import blank_encoder
    from auricle.hub.loading import load

    record = search.find(name)
    if record.size is not None:
        family = find_family(record.family)
        info = blank_encoder(family, family.preset(record.size)).info
    elif must_be_downloaded(name):
        return NO_LAYERS
    else:
        info = load(name).info
    return Layers(names=info.layers, default=info.default_layer)


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"
