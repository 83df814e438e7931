"""`load`: from a catalogue name or a path to a ready encoder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch

from auricle.convert.originals import Configuration
from auricle.errors import AuricleError
from auricle.hub import catalogue
from auricle.hub.checkpoints import read_encoder, refuse_config
from auricle.hub.digests import pinned_sha256
from auricle.hub.download import fetch, fetch_config
from auricle.hub.embedded import whole_embedded_path
from auricle.hub.records import Record
from auricle.models.base import Encoder
from auricle.models.families import FAMILIES
from auricle.outputs import Provenance

logger = logging.getLogger(__name__)


def load(
    name_or_path: str | Path,
    *,
    checkpoint: str | Path | None = None,
    config: Configuration | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    refresh: bool = False,
) -> Encoder:
    """Load an encoder by name or from a checkpoint.

    Args:
        name_or_path: A catalogue name (`auricle list`), or the path of a checkpoint, whose
            format and family are recognised from its content.
        checkpoint: Path of a checkpoint for a named family or catalogue entry, instead of the
            published one.
        config: For a checkpoint whose configuration is a file of its own (PASE): its path, or
            what it holds; without it the file beside the checkpoint is taken. For a baseline:
            options of its front end (`load("fbank", config={"cmvn": True})`).
        device: Where the weights go.
        dtype: Floating-point type of the weights; representations are float32 whatever it is.
        refresh: Download the published checkpoint again, even if it is in the cache; an embedded
            one needs no download.

    Returns:
        The encoder in eval mode; gradients are possible (`model.train()` to fine-tune).

    Raises:
        UnknownModelError: The name is not in the catalogue.
        CheckpointError: The checkpoint is missing, unsafe, damaged, of another family, or does
            not fit.
        DownloadError: The published file cannot be fetched.
        ChecksumError: The file that came is not the published one.
        AuricleError: This machine has no such device; `dtype` is no floating-point type.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise AuricleError(
            f"dtype must be a floating-point type such as torch.bfloat16, but is {dtype!r}"
        )
    device = _usable(device)
    encoder = _load(name_or_path, checkpoint, config, refresh)
    return encoder.to(device=device, dtype=dtype)


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
    config: Configuration | None,
    refresh: bool,
) -> Encoder:
    if checkpoint is None and catalogue.looks_like_path(name_or_path):
        path = Path(name_or_path)
        return read_encoder(path, family=None, provenance=Provenance(), config=config)
    name = str(name_or_path)
    if checkpoint is not None:
        family = name if name in FAMILIES else catalogue.find(name).family
        origin = Provenance(name=name)
        encoder = read_encoder(Path(checkpoint), family=family, provenance=origin, config=config)
        if name not in FAMILIES:
            _warn_of_another_size(encoder, catalogue.find(name))
        return encoder
    record = catalogue.find(name)
    if record.family == "baseline":
        return _baseline(record.name, config)
    refuse_config(config, name)
    if record.embedded:
        path = whole_embedded_path(record)
    else:
        path = fetch(record, refresh=refresh)
        config = fetch_config(record, refresh=refresh)
    provenance = Provenance(
        name=record.name,
        training_data=record.training_data,
        licence=record.licence,
        source_url=record.urls[0] if record.urls else None,
        sha256=record.sha256 or pinned_sha256(path),
    )
    return read_encoder(path, family=record.family, provenance=provenance, config=config)


def _warn_of_another_size(encoder: Encoder, record: Record) -> None:
    """Say so where a checkpoint cannot be the one that its name stands for."""
    if record.size is None:
        return
    with torch.device("meta"):
        published = type(encoder)(FAMILIES[record.family].encoder_module().PRESETS[record.size])
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
    from auricle.models.baseline import PRESETS, Baseline, BaselineConfig

    if config is not None and not isinstance(config, Mapping):
        raise AuricleError(f"config for {name} must be a mapping of options, but is {config!r}")
    features = PRESETS[name].features
    options = {**msgspec.to_builtins(features), **(config or {})}
    try:
        features = msgspec.convert(options, type(features))
    except msgspec.ValidationError as error:
        raise AuricleError(f"config for {name}: {error}") from error
    encoder = Baseline(BaselineConfig(features=features))
    encoder.provenance = Provenance(name=name)
    return encoder.eval()
