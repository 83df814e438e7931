"""`auricle info`: what a model is, from the catalogue, its family and, where there are, weights."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import torch

from auricle.hub import catalogue
from auricle.hub.digests import file_sha256, pinned_sha256
from auricle.hub.download import cached_path
from auricle.hub.embedded import embedded_path
from auricle.hub.loading import load
from auricle.hub.records import Record
from auricle.models.base import Config, Encoder
from auricle.models.families import FAMILIES, Family
from auricle.outputs import ModelInfo, Paper

Facts: TypeAlias = Iterator[tuple[str, str]]

UNKNOWN = "not known"
LABEL_WIDTH = 19
WIDTH = 120


def run(arguments: argparse.Namespace) -> int:
    """Print what is known of the model.

    Raises:
        UnknownModelError: The name is not in the catalogue.
        CheckpointError: The path is no checkpoint that can be loaded.
    """
    if catalogue.looks_like_path(arguments.model):
        _print(_file_facts(Path(arguments.model)))
    else:
        _print(_record_facts(catalogue.find(arguments.model)))
    return 0


def _record_facts(record: Record) -> Facts:
    yield "name", record.name
    if record.aliases:
        yield "also called", ", ".join(record.aliases)
    if record.note:
        yield "note", record.note
    family = FAMILIES[record.family]
    yield from _family_facts(family, record.title, record.paper)
    if record.paper is not None:
        yield "pretraining data", record.training_data or UNKNOWN
        if not record.embedded:
            yield "weights published", "yes" if record.urls else "no"
        yield "licence", record.licence or UNKNOWN
    for url in record.urls:
        yield "source", url
    if record.embedded:
        yield "weights", f"in the package, {embedded_path(record)}"
        yield "sha256", record.sha256 or UNKNOWN
    if record.size is None:
        yield from _architecture_facts(load(record.name).info)
        return
    if record.urls:
        path = cached_path(record)
        yield "sha256", record.sha256 or pinned_sha256(path) or _prefix(record)
        if path.is_file():
            yield "weights", f"on this machine, {path}"
            yield from _architecture_facts(load(record.name).info)
            return
        yield "weights", "not on this machine; what follows is the published size"
    yield from _size_facts(family, record.size)


def _prefix(record: Record) -> str:
    return f"{record.sha256_prefix}..." if record.sha256_prefix else UNKNOWN


def _file_facts(path: Path) -> Facts:
    info = load(path).info
    yield "file", str(path)
    yield "name", info.name
    family = FAMILIES[info.family]
    yield from _family_facts(family, family.title, family.paper)
    yield "pretraining data", info.training_data or UNKNOWN
    yield "licence", info.licence or UNKNOWN
    yield "source", info.source_url or UNKNOWN
    yield "source sha256", info.sha256 or UNKNOWN
    if path.is_file():  # a checkpoint may be a folder
        yield "sha256", file_sha256(path)
    yield from _architecture_facts(info)


def _family_facts(family: Family, title: str, paper: Paper | None) -> Facts:
    yield "model", title
    yield "family", family.stem
    if paper is not None:
        yield "published", paper.date
        yield "paper", f"{paper.title} ({paper.url})"
        yield "loss", family.loss
    yield "input", family.input
    if family.repository is not None:
        yield "repository", family.repository


def _size_facts(family: Family, size: str) -> Facts:
    """The architecture of a published size; on the meta device it takes no memory."""
    config: Config = family.encoder_module().PRESETS[size]
    with torch.device("meta"):
        encoder: Encoder = family.encoder_type()(config)
    yield "published size", size
    yield from _architecture_facts(encoder.info)


def _architecture_facts(info: ModelInfo) -> Facts:
    rate = info.sample_rate
    field = info.receptive_field
    reaches = [
        text
        for holds, text in (
            (field.sees_past, "the past"),
            (field.looks_ahead, "the whole utterance"),
            (field.uses_utterance_statistics, "statistics of the utterance"),
        )
        if holds
    ]
    beyond = f"; beyond it {', '.join(reaches)}" if reaches else ""
    yield "sample rate", f"{rate} Hz"
    yield "stride", _span(info.hop_samples, rate)
    yield "receptive field", f"{_span(field.samples, rate)}{beyond}"
    yield "minimum length", _span(info.min_samples, rate)
    yield "dim", f"{info.dims[info.default_layer]} ({info.default_layer}, the default layer)"
    yield "layers", ", ".join(f"{name} {info.dims[name]}" for name in info.layers)
    yield "parameters", f"{info.num_parameters:,}"


def _span(num_samples: int, sample_rate: int) -> str:
    return f"{num_samples} samples ({1000 * num_samples / sample_rate:g} ms)"


def _print(facts: Facts) -> None:
    for label, text in facts:
        lines = textwrap.wrap(
            text, WIDTH - LABEL_WIDTH, break_long_words=False, break_on_hyphens=False
        )
        for index, line in enumerate(lines or [""]):
            print(f"{'' if index else label:<{LABEL_WIDTH}}{line}".rstrip())
