"""From a checkpoint file to a ready encoder: recognise, convert, check, build."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from auricle.catalogue.family import find_family
from auricle.convert.converted import Converted
from auricle.convert.keymap import KeyMap
from auricle.convert.originals import Configuration, read_original
from auricle.errors import CheckpointError, UnknownModelError
from auricle.hub.locations import repository_hint
from auricle.hub.plug_in_formats import formats_for
from auricle.hub.skeletons import skeleton
from auricle.models.base import Config, Encoder
from auricle.native import is_native, read_native
from auricle.outputs import Provenance
from auricle.safetensors_file import ALIGNMENT_BYTES

OPTIONAL_SUFFIX = "num_batches_tracked"
"""Batch norm's step counter: files from before torch 0.4.1 lack it, evaluation never reads it."""


def read_encoder(
    path: Path,
    *,
    family: str | None,
    provenance: Provenance,
    config: Configuration | None = None,
) -> Encoder:
    """The encoder that a checkpoint file holds, in eval mode, on the CPU.

    Args:
        path: The library's own `.safetensors` file or an original checkpoint (a file, or the
            folder of a Hugging Face model).
        family: The family it must be of; None to take the one that its content tells.
        provenance: Where it comes from; what the library's own file says takes precedence.
        config: For a format that keeps its configuration in a file of its own: that file or
            what it holds, where it does not lie beside the checkpoint.

    Raises:
        CheckpointError: The file is missing, unsafe, damaged, of no known format, of another
            family, or its weights do not fit.
        PlugInError: The plug-in that adds its family is broken.
    """
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist; expected a checkpoint, the folder of a Hugging Face model, "
            f"or a name that `auricle list` shows{repository_hint(path)}"
        )
    if is_native(path):
        refuse_config(config, path)
        return _read_native(path, family, provenance)
    layout, payload = read_original(path, config, formats_for(family))
    families = layout.families(payload)
    if family is not None and family not in families:
        raise CheckpointError(
            f"{path} is a checkpoint of {' or '.join(families)} (format {layout.name}), not of "
            f"{family}; load it under its own name, or by its path alone"
        )
    family = family or families[0]
    converted: Converted = find_family(family).converter().convert(payload)
    renamed = converted.keymap.apply(converted.weights)
    encoder = assemble(
        family, converted.config, renamed.weights, renamed.unknown, converted.keymap, str(path)
    )
    encoder.provenance = provenance
    encoder.unused_keys = renamed.dropped
    return encoder


def _read_native(path: Path, family: str | None, provenance: Provenance) -> Encoder:
    native = read_native(path)
    try:
        native_family = find_family(native.family)
    except UnknownModelError as error:
        raise CheckpointError(
            f"{path} is of the family {native.family!r}, which neither this version nor a plug-in "
            f"that is installed knows: {error}"
        ) from error
    if family not in (None, native.family):
        raise CheckpointError(
            f"{path} is a checkpoint of {native.family}, not of {family}; load it under its own "
            "name, or by its path alone"
        )
    config_type = native_family.encoder_type().config_type
    try:
        config = msgspec.json.decode(native.config, type=config_type)
    except msgspec.DecodeError as error:
        raise CheckpointError(f"the configuration in {path} does not hold: {error}") from error
    encoder = assemble(native.family, config, native.weights, (), KeyMap(()), str(path))
    known = {
        name: value
        for name, value in dataclasses.asdict(native.provenance).items()
        if value is not None
    }
    if native.provenance.source_url or native.provenance.sha256:
        # These two belong together: a digest is that of the file at its own source.
        provenance = dataclasses.replace(provenance, source_url=None, sha256=None)
    encoder.provenance = dataclasses.replace(provenance, **known)
    return encoder


def assemble(
    family: str,
    config: Config,
    weights: Mapping[str, Tensor],
    unknown: tuple[str, ...],
    keymap: KeyMap,
    source: str,
) -> Encoder:
    """An encoder of `family` with exactly `weights`, in eval mode; never a partly loaded one.

    Raises:
        CheckpointError: Keys are missing, unexpected (`unknown` ones among them) or mis-shaped;
            the message lists them as `keymap`'s originals.
    """
    try:
        encoder = skeleton(find_family(family).build, config)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"the configuration in {source} does not make a {family} encoder: {error}"
        ) from error
    expected = encoder.state_dict(keep_vars=True)  # only shapes count
    weights = {name: _settled(weight) for name, weight in weights.items()}
    for name in expected:
        if name.endswith(OPTIONAL_SUFFIX):
            weights.setdefault(name, torch.zeros((), dtype=torch.int64))
    missing = [keymap.original(name) for name in expected if name not in weights]
    unexpected = [*unknown, *(keymap.original(name) for name in weights if name not in expected)]
    misshaped = [
        f"{keymap.original(name)} is {_shape(weights[name])}, expected {_shape(expected[name])}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    if missing or unexpected or misshaped:
        problems = (("missing", missing), ("unexpected", unexpected), ("mis-shaped", misshaped))
        found = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in problems if keys)
        raise CheckpointError(f"the weights in {source} do not fit the {family} encoder. {found}")
    encoder.load_state_dict(weights, assign=True)
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    return encoder.eval()


def _settled(weight: Tensor) -> Tensor:
    """The weight as every other way to load it would place it in memory.

    Some matrix products round differently where memory begins or strides elsewhere, and a
    conversion must give the same bits as the original.
    """
    weight = weight.contiguous()
    return weight.clone() if weight.data_ptr() % ALIGNMENT_BYTES else weight


def refuse_config(config: object, what: str | Path) -> None:
    """Raise CheckpointError where a configuration is given for what holds its own."""
    if config is not None:
        raise CheckpointError(f"{what} brings its own configuration; leave config= out")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
