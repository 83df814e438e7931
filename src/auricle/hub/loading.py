"""`load`: from a catalogue name or a path to a ready encoder."""

from __future__ import annotations

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
from auricle.models.base import Encoder
from auricle.models.families import FAMILIES
from auricle.outputs import Provenance


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
        refresh: Download the published checkpoint again, even if it is in the cache.

    Returns:
        The encoder in eval mode; gradients are possible (`model.train()` to fine-tune).

    Raises:
        UnknownModelError: The name is not in the catalogue.
        CheckpointError: The checkpoint is missing, unsafe, damaged, of another family, or does
            not fit.
        DownloadError: The published file cannot be fetched.
        ChecksumError: The file that came is not the published one.
    """
    if not dtype.is_floating_point:
        raise AuricleError(f"dtype must be a floating-point type, but is {dtype}")
    encoder = _load(name_or_path, checkpoint, config, refresh)
    return encoder.to(device=device, dtype=dtype)


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
        return read_encoder(Path(checkpoint), family=family, provenance=origin, config=config)
    record = catalogue.find(name)
    if record.family == "baseline":
        return _baseline(record.name, config)
    refuse_config(config, name)
    path = fetch(record, refresh=refresh)
    config = fetch_config(record, refresh=refresh)
    provenance = Provenance(
        name=record.name,
        training_data=record.training_data,
        licence=record.licence,
        source_url=record.urls[0],
        sha256=record.sha256 or pinned_sha256(path),
    )
    return read_encoder(path, family=record.family, provenance=provenance, config=config)


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
