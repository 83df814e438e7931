"""`auricle info`: show a model's metadata, from the catalogue, its family and its weights."""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from auricle.catalogue.family import Family, find_family
from auricle.catalogue.record import is_non_commercial
from auricle.catalogue.search import repository_hint
from auricle.cli.listing import record_json
from auricle.cli.options import MODEL_HELP, add_weights, load_encoder
from auricle.errors import CheckpointError
from auricle.hub.location import is_location, looks_like_path

if TYPE_CHECKING:
    from auricle.catalogue.record import Record, StatedFile
    from auricle.info import ModelInfo, Paper

Facts: TypeAlias = Iterator[tuple[str, str]]

SUMMARY = "show a model's metadata"
TEXT = """\
Show a model's metadata: publication, input, stride, layers, parameters, provenance and licence.

A catalogue name works offline and downloads nothing. If its weights are not on this machine, the
architecture shown is that of the published size.
"""
EXAMPLES = """\
examples:
  auricle info tera
  auricle info path/to/states-1000000.ckpt
  auricle info hf://owner/name
  auricle info wavlm_large --config normalize=false
  auricle info tera --json
"""

UNKNOWN = "not known"
LABEL_WIDTH = 21
WIDTH = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model and the options of its weights."""
    # The metadata depends neither on a device nor on a precision.
    parser.set_defaults(device="cpu", precision="float32")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--json", action="store_true", help="print one object of JSON")
    add_weights(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the metadata.

    Raises:
        UnknownModelError: The name is not in the catalogue.
        CheckpointError: The path is no checkpoint that can be loaded.
        DownloadError: The URL does not give one.
        PlugInError: The model is from a plug-in that is broken.
    """
    from auricle.catalogue import search

    model: str = arguments.model
    is_file = isinstance(arguments.config, str | Path)
    place = arguments.checkpoint or (arguments.config if is_file else None)
    if place is not None:
        _show_own(place, arguments)
    elif is_location(model):
        _show_own(model, arguments)
    elif looks_like_path(model):
        # Checked here too, because the loader takes long to import.
        if not Path(model).exists():
            raise CheckpointError(
                f"{model} does not exist; expected a checkpoint, the folder of a Hugging Face "
                f"model, or a name that `auricle list` shows{repository_hint(model)}"
            )
        _show_own(Path(model), arguments)
    elif arguments.json:
        _print_json(_record_json(search.find(model), arguments))
    else:
        _print(_record_facts(search.find(model), arguments))
    return 0


def _show_own(place: str | Path, arguments: argparse.Namespace) -> None:
    """Print the facts of a checkpoint of the user's own, at a path or a URL."""
    if not arguments.json:
        _print(_own_facts(place, arguments))
        return
    from auricle.files.atomic import file_sha256

    info = load_encoder(arguments).info
    facts: dict[str, Any] = {"place": str(place), "architecture": dataclasses.asdict(info)}
    if isinstance(place, Path) and place.is_file():
        facts |= {"num_bytes": place.stat().st_size, "sha256": file_sha256(place)}
    _print_json(facts)


def _record_json(record: Record, arguments: argparse.Namespace) -> dict[str, Any]:
    from auricle.hub.location import availability

    if arguments.refresh and record.urls:
        load_encoder(arguments)
    facts = record_json(record, availability(record))
    info = load_encoder(arguments).info if _has_copy(record) else None
    if info is None:
        info = _size_info(find_family(record.family), record, arguments.config)
    return {**facts, "size": record.size, "architecture": dataclasses.asdict(info)}


def _has_copy(record: Record) -> bool:
    """True for a model that is loaded from this machine, or has no published size to show."""
    from auricle.hub.cache import cached_path
    from auricle.hub.location import availability, is_converted

    if record.embedded or record.family == "baseline" or record.size is None:
        return True
    # A repository is asked for its latest commit before it loads, so it does not count here.
    is_usable = bool(record.urls) and availability(record).works_offline
    return is_usable and (is_converted(record) or cached_path(record).is_file())


def _print_json(facts: Mapping[str, Any]) -> None:
    print(json.dumps(facts, indent=2))


def _record_facts(record: Record, arguments: argparse.Namespace) -> Facts:
    from auricle.files.atomic import pinned_sha256
    from auricle.hub.cache import cached_path, embedded_path
    from auricle.hub.location import availability, known_num_bytes

    if arguments.refresh and record.urls:
        load_encoder(arguments)
    yield "name", record.name
    if record.aliases:
        yield "aliases", ", ".join(record.aliases)
    if record.note:
        yield "note", record.note
    family = find_family(record.family)
    yield from _family_facts(family, record.title, record.paper)
    if record.paper is not None:
        yield "pretraining data", record.training_data or UNKNOWN
        if not record.embedded:
            yield "weights published", "yes" if record.urls else "no"
        yield from _licence_facts(record.licence)
    for url in record.urls:
        yield "source", url
    if record.embedded or record.urls:
        num_bytes = known_num_bytes(record)
        yield "size of the weights", UNKNOWN if num_bytes is None else f"{num_bytes:,} bytes"
    if record.embedded:
        yield "weights", f"bundled, {embedded_path(record)}"
        yield "sha256", record.sha256 or UNKNOWN
    elif record.urls:
        path = cached_path(record)
        yield "sha256", record.sha256 or pinned_sha256(path) or _prefix(record)
        if availability(record).works_offline:
            yield "weights", f"on this machine{f', {path}' if path.is_file() else ''}"
        else:
            yield "weights", "not on this machine; the architecture below is the published size"
    for stated in record.stated:
        yield "stated digest", f"{stated.place}: {_stated(stated)}; {stated.source}"
    if _has_copy(record):
        yield from _architecture_facts(load_encoder(arguments).info)
    else:
        yield from _size_facts(family, record, arguments.config)


def _licence_facts(licence: str | None) -> Facts:
    yield "licence", licence or UNKNOWN
    if is_non_commercial(licence):
        yield "commercial use", "not allowed by the licence"


def _stated(file: StatedFile) -> str:
    facts = []
    if file.num_bytes is not None:
        facts.append(f"{file.num_bytes:,} bytes")
    if file.sha256 is not None:
        facts.append(f"sha256 {file.sha256}")
    if file.commit is not None:
        facts.append(f"at commit {file.commit}")
    return ", ".join(facts)


def _prefix(record: Record) -> str:
    return f"{record.sha256_prefix}..." if record.sha256_prefix else UNKNOWN


def _own_facts(place: str | Path, arguments: argparse.Namespace) -> Facts:
    """Yield the facts of a checkpoint of the user's own, at a path or a URL."""
    from auricle.catalogue import search
    from auricle.files.atomic import file_sha256
    from auricle.info import RANDOM_WEIGHTS

    info = load_encoder(arguments).info
    yield "file" if isinstance(place, Path) else "url", str(place)
    yield "name", info.name
    family = find_family(info.family)
    # A file of a family with models of several papers does not identify its paper.
    titles = {record.title for record in search.select(family=family.stem)[0]}
    if info.training_data == RANDOM_WEIGHTS:  # nothing was published
        yield from _family_facts(family, family.title, None)
    elif len(titles) > 1:
        yield from _family_facts(family, " or ".join(sorted(titles)), None)
    else:
        yield from _family_facts(family, family.title, family.paper)
    yield "pretraining data", info.training_data or UNKNOWN
    yield from _licence_facts(info.licence)
    yield "source", info.source_url or UNKNOWN
    yield "source sha256", info.sha256 or UNKNOWN
    if isinstance(place, Path) and place.is_file():  # a checkpoint may be a folder
        yield "size of the weights", f"{place.stat().st_size:,} bytes"
        yield "sha256", file_sha256(place)
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


def _size_facts(family: Family, record: Record, options: Mapping[str, Any] | None) -> Facts:
    assert record.size is not None
    yield "published size", record.size
    yield from _architecture_facts(_size_info(family, record, options))


def _size_info(family: Family, record: Record, options: Mapping[str, Any] | None) -> ModelInfo:
    """The architecture of a published size; on the meta device it takes no memory."""
    from auricle.checkpoints.checkpoint import Checkpoint, blank_encoder
    from auricle.info import Provenance

    assert record.size is not None
    config, provenance = family.preset(record.size), Provenance(name=record.name)
    preset = Checkpoint(family=family.stem, config=config, weights={}, provenance=provenance)
    changed = preset.changed(options or {})
    return blank_encoder(family, changed.config, changed.provenance).info


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
    beyond = f", plus {' and '.join(reaches)}" if reaches else ""
    yield "sample rate", f"{rate} Hz"
    yield "stride", _span(info.hop_samples, rate)
    yield "receptive field", f"{_span(field.samples, rate)}{beyond}"
    yield "minimum length", _span(info.min_samples, rate)
    yield "dim", f"{info.dims[info.default_layer]} ({info.default_layer}, the default layer)"
    yield "layers", ", ".join(f"{name} {info.dims[name]}" for name in info.layers)
    yield "parameters", f"{info.num_parameters:,}"
    if info.changed_config is not None:
        yield "changed config", json.dumps(info.changed_config)


def _span(num_samples: int, sample_rate: int) -> str:
    return f"{num_samples} samples ({1000 * num_samples / sample_rate:g} ms)"


def _print(facts: Facts) -> None:
    for label, text in facts:
        lines = textwrap.wrap(
            text, WIDTH - LABEL_WIDTH, break_long_words=False, break_on_hyphens=False
        )
        for index, line in enumerate(lines or [""]):
            print(f"{'' if index else label:<{LABEL_WIDTH}}{line}".rstrip())
