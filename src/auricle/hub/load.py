"""Load an encoder by name, path or URL; build one of a published size with random weights."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from auricle.catalogue import search
from auricle.catalogue.family import FAMILIES, Family, find_family, is_family, plug_in_families
from auricle.catalogue.record import Record
from auricle.checkpoints.checkpoint import UNKNOWN, Checkpoint, blank_encoder, build_encoder
from auricle.checkpoints.options import Configuration, options_to_change
from auricle.checkpoints.reading import read_checkpoint
from auricle.errors import AuricleError, PlugInError, UnknownModelError, warn_deprecated
from auricle.files.atomic import pinned_sha256
from auricle.hub.cache import Wanted, whole_embedded_path
from auricle.hub.conversions import (
    Fetched,
    fetch_location,
    load_location,
    load_once_converted,
)
from auricle.hub.download import fetch, fetch_config
from auricle.hub.location import (
    WEIGHT_FILES,
    is_location,
    is_repository_url,
    looks_like_path,
)
from auricle.inference.approximate import PRECISIONS, TYPES, Precision, set_precision
from auricle.info import RANDOM_WEIGHTS, Provenance
from auricle.models.base import Encoder
from auricle.models.definition import Config

logger = logging.getLogger(__name__)


def load(
    name_or_path: str | Path,
    *,
    checkpoint: str | Path | None = None,
    family: str | None = None,
    config: Configuration | None = None,
    device: str | torch.device = "auto",
    precision: Precision = "float32",
    refresh: bool = False,
    without_adapters: bool = False,
    dtype: torch.dtype | None = None,
) -> Encoder:
    """Load an encoder by name or from a checkpoint.

    Args:
        name_or_path: A catalogue name (`auricle list`), or the location of a checkpoint, whose
            format and family follow from its content: a path, a URL (`https:`, `http:`,
            `file:`), or a Hugging Face repository, `hf://owner/name[@revision][/file]` (`%2F`
            for a slash in the revision).
        checkpoint: Path or URL of a checkpoint for a named family or catalogue entry, instead of
            the published one.
        family: Family of a checkpoint of bare tensors, whose content does not say it.
        config: Fields of the model's configuration to change, by name, those of its parts in
            mappings (`load("wavlm_large", config={"normalize": False})`); `encoder.config` has
            them, and `encoder.info.changed_config` and stores record the change. For a baseline:
            options of its front end (`load("fbank", config={"cmvn": True})`). For a checkpoint
            whose configuration is a file of its own (PASE), and for bare tensors: the path or URL
            of a JSON file, or its content; without it the file beside the checkpoint is taken, or
            for a catalogue entry the published one.
        device: Device of the weights, as torch names it; `"auto"` for the first CUDA GPU where
            there is one, else the CPU.
        precision: Precision of inference: `"float32"`, `"fp16"`, `"bf16"` or, for Transformers on
            the CPU, `"int8"`. Representations are float32 whatever it is.
        refresh: Download and convert the checkpoint again, even if it is in the cache; an
            bundled one needs neither.
        without_adapters: Leave out the adapters of a checkpoint that has any (MMS for recognition,
            an adapter beside a model), and compute what the encoder does without them. By default
            such a checkpoint is refused.
        dtype: Deprecated: pass `precision`.

    Returns:
        The encoder in eval mode; gradients are possible (`model.train()` to fine-tune).

    Raises:
        UnknownModelError: The name is not in the catalogue.
        PlugInError: The plug-in that has the name, or the family, is broken.
        CheckpointError: The checkpoint is missing, unsafe, damaged, of another family, or does
            not fit.
        DownloadError: The published file, or the URL, cannot be fetched.
        ChecksumError: The downloaded file is not the published one, or differs from the first
            download from the URL.
        AuricleError: This machine has no such device; the encoder cannot have that precision, or
            its configuration no such field or value.
    """
    if dtype is not None:
        _check_dtype(dtype, precision)
    device = usable_device(device)
    choices = _Choices(config, refresh, without_adapters)
    encoder = _read(name_or_path, checkpoint, family, choices).build().to(device)
    if checkpoint is not None:
        _warn_of_another_size(encoder, str(name_or_path))
    set_precision(encoder, precision)
    return encoder if dtype is None else encoder.to(dtype)


def _check_dtype(dtype: torch.dtype, precision: Precision) -> None:
    """Warn of the deprecated `dtype`; AuricleError if it is invalid, or given with `precision`."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise AuricleError(
            f"dtype must be a floating-point type such as torch.bfloat16, but is {dtype!r}; "
            f"dtype is deprecated: pass {_precision_for(dtype)}"
        )
    if precision != "float32":
        raise AuricleError(f"got precision={precision!r} and dtype={dtype}; give one of them")
    warn_deprecated(
        f"dtype={dtype} is deprecated: pass {_precision_for(dtype)}, or call to(dtype) of the "
        "encoder"
    )


def _precision_for(dtype: object) -> str:
    """The argument to pass in place of `dtype`; all that there are if none is the same."""
    name = str(dtype).removeprefix("torch.")
    for precision, kept in TYPES.items():
        if name in (precision, str(kept).removeprefix("torch.")):
            return f'precision="{precision}"'
    return f"precision=, one of {', '.join(PRECISIONS)}"


def usable_device(device: str | torch.device) -> torch.device:
    """Resolve a device, `"auto"` to a GPU or else the CPU; AuricleError if it is not available."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise AuricleError(
            f"cannot use device {str(device)!r}: {reason}; expected auto, cpu, or cuda or mps "
            "where this machine and this build of torch have it"
        ) from error


@dataclasses.dataclass(frozen=True)
class _Choices:
    """Arguments of `load` about reading a checkpoint."""

    config: Configuration | None
    refresh: bool
    without_adapters: bool


def _read(
    name_or_path: str | Path, checkpoint: str | Path | None, family: str | None, choices: _Choices
) -> Checkpoint:
    config, refresh = choices.config, choices.refresh
    if family is not None:
        find_family(family)  # raises for one that there is not
    if isinstance(config, str) and is_location(config):
        config = fetch_location(config, refresh=refresh).path
        choices = dataclasses.replace(choices, config=config)
    if checkpoint is None and (is_location(name_or_path) or looks_like_path(name_or_path)):
        return _own(name_or_path, family, choices)
    name = str(name_or_path)
    named = name if is_family(name) else search.find(name).family
    if family not in (None, named):
        raise AuricleError(f"{name} is of the family {named}, not of {family}; leave out family=")
    if checkpoint is not None:
        normalize = None if is_family(name) else search.find(name).normalize
        published = _published_config(name)
        return _own(checkpoint, named, choices, normalize, published).named(name)
    record = search.find(name)
    if record.family == "baseline":
        return _baseline(record.name, config)
    options = options_to_change(config, name)
    facts = Provenance(
        name=record.name,
        training_data=record.training_data,
        licence=record.licence,
        source_url=record.urls[0] if record.urls else None,
        # The digest on record is that of a file, not of a repository that holds the same weights.
        sha256=record.sha256 if _is_file(record) else None,
    )
    if record.embedded:
        path = whole_embedded_path(record)
        bundled = read_checkpoint(path, family=record.family, provenance=facts)
        return bundled.changed(options)
    return _published(record, facts, choices).changed(options)


def _published(record: Record, facts: Provenance, choices: _Choices) -> Checkpoint:
    """Read a record whose weights are fetched, or cached."""
    refresh = choices.refresh
    downloaded: list[Path] = []

    def fetch_record() -> Fetched:
        path = fetch(record, refresh=refresh)
        downloaded.append(path)
        config = fetch_config(record, refresh=refresh)
        known = dataclasses.replace(facts, sha256=facts.sha256 or pinned_sha256(path))
        return Fetched(path=path, provenance=known, config=config)

    wanted = Wanted(
        label=record.name,
        places=(*record.urls, record.config_url or ""),
        family=record.family,
        sha256=(record.sha256 or record.sha256_prefix) if _is_file(record) else None,
        normalize=record.normalize,
        without_adapters=choices.without_adapters,
    )
    checkpoint = load_once_converted(wanted, fetch_record, refresh=refresh)
    for path in downloaded:
        _warn_of_another_file(record, path, checkpoint.provenance.sha256)
    # The current facts of the catalogue take precedence over those at the time of the conversion.
    current = {name: value for name, value in dataclasses.asdict(facts).items() if value}
    provenance = dataclasses.replace(checkpoint.provenance, **current)
    return dataclasses.replace(checkpoint, provenance=provenance)


def _is_file(record: Record) -> bool:
    """True if the record has one file, and no repository that may take its place."""
    return not any(map(is_repository_url, record.urls))


def _published_config(name: str) -> Config | None:
    """The configuration of the size that a catalogue entry is of; None where it has none."""
    try:
        record = search.find(name)
    except UnknownModelError:  # a family without a model of that name
        return None
    return find_family(record.family).preset(record.size) if record.size is not None else None


def _own(
    location: str | Path,
    family: str | None,
    choices: _Choices,
    normalize: bool | None = None,
    published: Config | None = None,
) -> Checkpoint:
    """A checkpoint of the user's own: at a path, or fetched from a URL."""
    if is_location(location):
        return load_location(
            str(location),
            family,
            config=choices.config,
            refresh=choices.refresh,
            normalize=normalize,
            published=published,
            without_adapters=choices.without_adapters,
        )
    return read_checkpoint(
        Path(location),
        family=family,
        provenance=UNKNOWN,
        config=choices.config,
        normalize=normalize,
        published=published,
        without_adapters=choices.without_adapters,
    )


def _warn_of_another_file(record: Record, path: Path, sha256: str | None) -> None:
    """Warn where the weights of a repository have another digest than is stated of them."""
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


def _warn_of_another_size(encoder: Encoder, name: str) -> None:
    """Warn where a checkpoint is of another size than its name stands for."""
    config = _published_config(name)
    if config is None or is_family(name):  # which has models of several sizes
        return
    published = blank_encoder(find_family(encoder.family), config)
    if encoder.info.dims != published.info.dims:
        logger.warning(
            "the checkpoint given for %s is not of its size: it has %d layers of up to %d dims, "
            "expected %d of up to %d",
            search.find(name).name,
            len(encoder.info.dims),
            max(encoder.info.dims.values()),
            len(published.info.dims),
            max(published.info.dims.values()),
        )


def _baseline(name: str, config: Configuration | None) -> Checkpoint:
    if config is not None and not isinstance(config, Mapping):
        raise AuricleError(f"config for {name} must be a mapping of options, but is {config!r}")
    preset = Checkpoint(
        family="baseline",
        config=FAMILIES["baseline"].preset(name),
        weights={},
        provenance=Provenance(name=name),
    )
    return preset.changed({"features": config or {}})


def build(size: str | Config, *, seed: int = 0, device: str | torch.device = "cpu") -> Encoder:
    """Build an encoder with random weights, for pretraining and for measurements.

    Args:
        size: Name of a published size (`list_sizes()`) or of a model of the catalogue, or a
            family's config.
        seed: Of the random weights; the global random state is left as it was.
        device: Device of the weights, as `load` takes it; on `"meta"` there are shapes alone, at
            once and without memory.

    Returns:
        The encoder in eval mode, float32.

    Raises:
        UnknownModelError: No size has that name, or the config is of no family.
        PlugInError: The plug-in that the size or the config is of is broken.
    """
    family, config = _by_name(size) if isinstance(size, str) else (_family_of(size), size)
    name = size if isinstance(size, str) else None
    provenance = Provenance(name=name)
    if family.stem != "baseline":
        provenance = Provenance(
            name=f"{name or family.stem} (random weights)", training_data=RANDOM_WEIGHTS
        )
    device = usable_device(device)
    if device.type == "meta":
        return blank_encoder(family, config, provenance, name=name).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(family, config, provenance, name=name).eval().to(device)


def _by_name(name: str) -> tuple[Family, Config]:
    """Find a size by its name, or by the name of a model."""
    for family in FAMILIES.values():  # first, so that no plug-in is imported for them
        if name in family.sizes:
            return family, family.preset(name)
    try:
        record = search.find(name)
    except UnknownModelError:
        record = None
    if record is not None and record.size is not None:
        family = find_family(record.family)
        return family, family.preset(record.size)
    sizes = search.list_sizes()
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
