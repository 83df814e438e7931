"""`load`: from a catalogue name, a path or a URL to a ready encoder."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from auricle.catalogue import search
from auricle.catalogue.family import FAMILIES, find_family, is_family
from auricle.catalogue.record import Record
from auricle.checkpoints.checkpoint import blank_encoder, build_encoder
from auricle.checkpoints.options import Configuration
from auricle.checkpoints.reading import read_encoder, refuse_config
from auricle.errors import AuricleError, UnknownModelError
from auricle.hub.conversions import Wanted
from auricle.hub.converting import configuration_sha256, load_once_converted
from auricle.hub.digests import pinned_sha256
from auricle.hub.download import fetch, fetch_config
from auricle.hub.embedded import whole_embedded_path
from auricle.hub.fetching import Fetched, fetch_location, without_password
from auricle.hub.locations import is_location, is_repository_url, looks_like_path
from auricle.hub.repositories import WEIGHT_FILES
from auricle.models.base import Config, Encoder
from auricle.outputs import Provenance

if TYPE_CHECKING:
    from auricle.models.precision import Precision

logger = logging.getLogger(__name__)


def load(
    name_or_path: str | Path,
    *,
    checkpoint: str | Path | None = None,
    family: str | None = None,
    config: Configuration | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    precision: Precision | None = None,
    refresh: bool = False,
) -> Encoder:
    """Load an encoder by name or from a checkpoint.

    Args:
        name_or_path: A catalogue name (`auricle list`), or where a checkpoint is, whose format
            and family are recognised from its content: a path, a URL (`https:`, `http:`,
            `file:`), or a Hugging Face repository, `hf://owner/name[@revision][/file]` (`%2F`
            for a slash in the revision).
        checkpoint: Path or URL of a checkpoint for a named family or catalogue entry, instead of
            the published one.
        family: What a checkpoint must be of, where its content does not tell: bare tensors.
        config: For a checkpoint whose configuration is a file of its own (PASE), and for bare
            tensors: the path or URL of a JSON file, or what it holds; without it the file beside
            the checkpoint is taken, or for a catalogue entry the published one. For a baseline:
            options of its front end (`load("fbank", config={"cmvn": True})`).
        device: Where the weights go.
        dtype: Floating-point type of the weights; representations are float32 whatever it is.
        precision: How many bits products have: `"float32"`, `"fp16"`, `"bf16"` or, for Transformers
            on the CPU, `"int8"`; None for those of `dtype`.
        refresh: Download and convert the checkpoint again, even if it is in the cache; an
            embedded one needs neither.

    Returns:
        The encoder in eval mode; gradients are possible (`model.train()` to fine-tune).

    Raises:
        UnknownModelError: The name is not in the catalogue.
        PlugInError: The plug-in that has the name, or the family, is broken.
        CheckpointError: The checkpoint is missing, unsafe, damaged, of another family, or does
            not fit.
        DownloadError: The published file, or the URL, cannot be fetched.
        ChecksumError: The file that came is not the published one, or not what the URL gave the
            first time.
        AuricleError: This machine has no such device; `dtype` is no floating-point type; the
            encoder cannot have that precision, or it is given with another `dtype`.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise AuricleError(
            f"dtype must be a floating-point type such as torch.bfloat16, but is {dtype!r}"
        )
    if precision is not None and dtype != torch.float32:
        raise AuricleError(f"got precision={precision!r} and dtype={dtype}; give one of them")
    device = _usable(device)
    encoder = _load(name_or_path, checkpoint, family, config, refresh).to(
        device=device, dtype=dtype
    )
    _describe(encoder)
    if precision is not None:
        from auricle.models.precision import set_precision

        set_precision(encoder, precision)
    return encoder


def _describe(encoder: Encoder) -> None:
    """Give an encoder the title and the paper of its record, where these are not its family's."""
    name = encoder.provenance.name
    if name is None or not search.is_name(name):
        return
    record = search.find(name)
    if record.family == encoder.family:
        encoder.title, encoder.paper = record.title, record.paper


def _usable(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise AuricleError(
            f"cannot use device {str(device)!r}: {reason}; expected cpu, or cuda or mps where this "
            "machine and this build of torch have it"
        ) from error


def _load(
    name_or_path: str | Path,
    checkpoint: str | Path | None,
    family: str | None,
    config: Configuration | None,
    refresh: bool,
) -> Encoder:
    if family is not None:
        find_family(family)  # raises for one that there is not
    if isinstance(config, str) and is_location(config):
        config = fetch_location(config, refresh=refresh).path
    if checkpoint is None and (is_location(name_or_path) or looks_like_path(name_or_path)):
        return _own(name_or_path, family, config, refresh)
    name = str(name_or_path)
    named = name if is_family(name) else search.find(name).family
    if family not in (None, named):
        raise AuricleError(f"{name} is of the family {named}, not of {family}; leave out family=")
    if checkpoint is not None:
        normalize = None if is_family(name) else search.find(name).normalize
        published = _published_config(name)
        encoder = _own(checkpoint, named, config, refresh, normalize, published)
        if encoder.provenance.name is None:
            encoder.provenance = dataclasses.replace(encoder.provenance, name=name)
        if not is_family(name):
            _warn_of_another_size(encoder, search.find(name))
        return encoder
    record = search.find(name)
    if record.family == "baseline":
        return _baseline(record.name, config)
    refuse_config(config, name)
    facts = Provenance(
        name=record.name,
        training_data=record.training_data,
        licence=record.licence,
        source_url=record.urls[0] if record.urls else None,
        sha256=record.sha256,
    )
    if record.embedded:
        path = whole_embedded_path(record)
        return read_encoder(path, family=record.family, provenance=facts)
    return _published(record, facts, refresh)


def _published(record: Record, facts: Provenance, refresh: bool) -> Encoder:
    """The encoder of a record whose weights are to be fetched, or were."""

    downloaded: list[Path] = []

    def fetch_record() -> Fetched:
        path = fetch(record, refresh=refresh)
        downloaded.append(path)
        config = fetch_config(record, refresh=refresh)
        known = dataclasses.replace(facts, sha256=record.sha256 or pinned_sha256(path))
        return Fetched(path=path, provenance=known, config=config)

    # The digest on record is that of a file, not of a repository that holds the same weights.
    is_file = not any(map(is_repository_url, record.urls))
    wanted = Wanted(
        label=record.name,
        places=(*record.urls, record.config_url or ""),
        family=record.family,
        sha256=(record.sha256 or record.sha256_prefix) if is_file else None,
        normalize=record.normalize,
    )
    encoder = load_once_converted(wanted, fetch_record, refresh=refresh)
    for path in downloaded:
        _warn_of_another_file(record, path, encoder.provenance.sha256)
    # What the catalogue says now counts, not what it said when the conversion was made.
    current = {name: value for name, value in dataclasses.asdict(facts).items() if value}
    encoder.provenance = dataclasses.replace(encoder.provenance, **current)
    return encoder


def _published_config(name: str) -> Config | None:
    """The configuration of the size that a catalogue entry is of; None where it has none."""
    try:
        record = search.find(name)
    except UnknownModelError:  # a family
        return None
    return find_family(record.family).preset(record.size) if record.size is not None else None


def _own(
    location: str | Path,
    family: str | None,
    config: Configuration | None,
    refresh: bool,
    normalize: bool | None = None,
    published: Config | None = None,
) -> Encoder:
    """A checkpoint of the user's own: at a path, or fetched from a URL."""
    if is_location(location):
        return load_location(
            str(location),
            family,
            config=config,
            refresh=refresh,
            normalize=normalize,
            published=published,
        )
    return read_encoder(
        Path(location),
        family=family,
        provenance=Provenance(),
        config=config,
        normalize=normalize,
        published=published,
    )


def load_location(
    url: str,
    family: str | None,
    *,
    sha256: str | None = None,
    config: Configuration | None = None,
    refresh: bool = False,
    normalize: bool | None = None,
    published: Config | None = None,
) -> Encoder:
    """The encoder of a checkpoint at a URL, by way of its conversion in the cache.

    Args:
        url: As `fetch_location` takes it.
        family: The family it must be of; None to take the one that its content tells.
        sha256: The digest that a single file must have, in hex.
        config: As `load` takes it.
        refresh: Fetch and convert again.
        normalize: As `read_encoder` takes it.
        published: As `read_encoder` takes it.

    Raises:
        DownloadError: The URL is of no use, or does not give the file.
        ChecksumError: What came is not what came the first time, or has another digest.
        CheckpointError: It cannot be loaded.
    """
    fetched = None
    if is_repository_url(url):  # a branch is looked up each time, so its commit decides
        fetched = fetch_location(url, refresh=refresh)
    wanted = Wanted(
        label=(fetched.provenance.source_url if fetched else None) or without_password(url),
        places=() if fetched else (url,),
        family=family,
        sha256=sha256.lower() if sha256 else None,
        config_sha256=configuration_sha256(config or msgspec.to_builtins(published)),
        normalize=normalize,
    )

    def fetch_again() -> Fetched:
        come = fetched or fetch_location(url, sha256=sha256, refresh=refresh)
        return dataclasses.replace(come, config=config, published=published)

    return load_once_converted(wanted, fetch_again, refresh=refresh)


def _warn_of_another_file(record: Record, path: Path, sha256: str | None) -> None:
    """Say so where the weights of a repository differ from what is stated of them."""
    names = [name for name in WEIGHT_FILES if (path / name).is_file()][:1]
    places = [f"{url}/{name}" for url in record.urls if is_repository_url(url) for name in names]
    stated = [one for one in record.stated if one.place in places and one.sha256]
    if stated and sha256 and sha256 not in [one.sha256 for one in stated]:
        logger.warning(
            "%s has the sha256 %s, not %s (%s); it may have been replaced since",
            stated[0].place,
            sha256,
            stated[0].sha256,
            stated[0].source,
        )


def _warn_of_another_size(encoder: Encoder, record: Record) -> None:
    """Say so where a checkpoint cannot be the one that its name stands for."""
    if record.size is None:
        return
    family = find_family(record.family)
    published = blank_encoder(family, family.preset(record.size))
    if encoder.info.dims != published.info.dims:
        logger.warning(
            "the checkpoint given for %s is not of its size: it has %d layers of up to %d dims, "
            "expected %d of up to %d",
            record.name,
            len(encoder.info.dims),
            max(encoder.info.dims.values()),
            len(published.info.dims),
            max(published.info.dims.values()),
        )


def _baseline(name: str, config: Configuration | None) -> Encoder:
    from auricle.models.baseline import BaselineConfig

    if config is not None and not isinstance(config, Mapping):
        raise AuricleError(f"config for {name} must be a mapping of options, but is {config!r}")
    preset = FAMILIES["baseline"].preset(name)
    assert isinstance(preset, BaselineConfig)
    features = preset.features
    options = {**msgspec.to_builtins(features), **(config or {})}
    try:
        features = msgspec.convert(options, type(features))
    except msgspec.ValidationError as error:
        raise AuricleError(f"config for {name}: {error}") from error
    made = BaselineConfig(features=features)
    return build_encoder(FAMILIES["baseline"], made, Provenance(name=name)).eval()
