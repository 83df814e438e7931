"""Choices that the page offers, and the durations that it takes; does not import torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from auricle.catalogue import search
from auricle.catalogue.family import find_family
from auricle.catalogue.record import Record
from auricle.hub.location import Availability, availabilities, availability, known_num_bytes

BYTES_PER_WEIGHT = 4

MAX_SECONDS = 60.0
"""Longest section that is drawn; details of longer ones would be too small to see."""

WHERE = {
    Availability.NOT_NEEDED: "no weights",
    Availability.EMBEDDED: "bundled",
    Availability.CACHED: "cached",
    Availability.DOWNLOAD: "download",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """Names of a model's layers in order, and the name of the default layer."""

    names: tuple[str, ...]
    default: str


NO_LAYERS = Layers(names=(), default="")
"""For no model, and for a model whose layers are known only after its download."""


def list_choices() -> list[tuple[str, str]]:
    """List (label, name) of every model with weights, those that work offline first.

    Within both groups models are in the order of the catalogue.
    """
    records = [search.find(name) for name in search.list_models()]
    states = zip(records, availabilities(records), strict=True)
    offered = [pair for pair in states if pair[1] in WHERE]
    offered.sort(key=lambda pair: not pair[1].works_offline)
    return [(f"{record.name} ({WHERE[state]})", record.name) for record, state in offered]


def must_be_downloaded(name: str) -> bool:
    """Return true if the weights of a model are not on this machine."""
    return availability(search.find(name)) is Availability.DOWNLOAD


def describe_choice(name: str) -> str:
    """Describe where the weights of a model are, and the size of the download."""
    record = search.find(name)
    state = availability(record)
    if state is Availability.DOWNLOAD:
        return f"{name} has to be downloaded: {describe_size(record)}."
    num_bytes = known_num_bytes(record)
    size = f", {_megabytes(num_bytes)}" if num_bytes is not None else ""
    return f"{name}: {WHERE[state]}{size}."


def describe_size(record: Record) -> str:
    """Describe the size of a download, or else of the encoder's weights."""
    num_bytes = known_num_bytes(record)
    if num_bytes is not None:
        return _megabytes(num_bytes)
    if record.size is None:
        return "the size of the file is unknown"
    from auricle.checkpoints.checkpoint import blank_encoder

    family = find_family(record.family)
    encoder = blank_encoder(family, family.preset(record.size))
    weights = _megabytes(encoder.info.num_parameters * BYTES_PER_WEIGHT)
    return f"the size of the file is unknown, the encoder has {weights} of weights"


def list_layers(name: str) -> Layers:
    """List the layers of a model by its published size, or else by loading its weights.

    Raises:
        AuricleError: It cannot be loaded.
    """
    from auricle.checkpoints.checkpoint import blank_encoder
    from auricle.hub.load import load

    record = search.find(name)
    if record.size is not None:
        family = find_family(record.family)
        info = blank_encoder(family, family.preset(record.size)).info
    elif must_be_downloaded(name):
        return NO_LAYERS
    else:
        info = load(name, device="cpu").info
    return Layers(names=info.layers, default=info.default_layer)


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def examine(path: Path) -> str:
    """Return a message if a recording is too long to be drawn whole, else an empty string.

    Raises:
        AudioError: The file is not audio, or is damaged.
    """
    from auricle.audio.files import read_header  # imports torch, which the page does not wait for

    return describe_excess(read_header(path).seconds or 0.0)


def describe_excess(seconds: float) -> str:
    """Return a message if a duration exceeds `MAX_SECONDS`, else an empty string."""
    if seconds <= MAX_SECONDS:
        return ""
    return (
        f"This is {_minutes(seconds)} of audio, and one picture holds at most {MAX_SECONDS:g} s: "
        "choose a section of it by its start and end. (auricle plot and auricle extract take "
        "recordings of any length.)"
    )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
