"""From a checkpoint file to a ready encoder: recognise, convert, check, build."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from auricle.catalogue.family import find_family
from auricle.convert import bare, huggingface
from auricle.convert.adapters import refuse_adapter_alone, refuse_adapter_keys
from auricle.convert.converted import Converted, weights_in
from auricle.convert.keymap import OPTIONAL_SUFFIX, KeyMap, Renamed
from auricle.convert.originals import Configuration, has_configuration, read_original
from auricle.errors import CheckpointError, UnknownModelError
from auricle.files.native import is_native, is_own, read_native
from auricle.files.safetensors import ALIGNMENT_BYTES
from auricle.hub.location import repository_hint
from auricle.hub.plug_in_formats import formats_for
from auricle.hub.skeletons import skeleton
from auricle.info import Provenance
from auricle.models.base import Encoder
from auricle.models.definition import Config

logger = logging.getLogger(__name__)

MAX_SIZE = 2**20
"""Far above any width, kernel or count of an encoder; the product of three still fits 64 bits."""


def read_encoder(
    path: Path,
    *,
    family: str | None,
    provenance: Provenance,
    config: Configuration | None = None,
    normalize: bool | None = None,
    published: Config | None = None,
) -> Encoder:
    """The encoder that a checkpoint file holds, in eval mode, on the CPU.

    Args:
        path: The library's own `.safetensors` file or an original checkpoint (a file, or the
            folder of a Hugging Face model).
        family: The family it must be of; None to take the one that its content tells.
        provenance: Where it comes from; what the library's own file says takes precedence.
        config: For a format that keeps its configuration in a file of its own, and for bare
            tensors: that file or what it holds, where it does not lie beside the checkpoint.
        normalize: Whether the encoder normalises waveforms, whatever the checkpoint says; None
            where that decides. For encoders that may.
        published: The configuration of the size that bare tensors must have, without `config`.

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
    huggingface.refuse_adapters(path)
    # Where nothing is given a configuration beside the weights is nearer than the published one.
    given = published if config is None and not has_configuration(path) else config
    if family is not None and given is not None and not is_own(path):
        weights = bare.read_bare(path, formats_for(family))
        if weights is not None:
            encoder = _of(family, bare.convert(weights, family, given), path, normalize)
            encoder.provenance = provenance
            return encoder
    if is_native(path):
        refuse_config(config, path)
        return _read_native(path, family, provenance, normalize)
    layout, payload = read_original(path, config, formats_for(family))
    families = layout.families(payload)
    if family is not None and family not in families:
        raise CheckpointError(
            f"{path} is a checkpoint of {' or '.join(families)} (format {layout.name}), not of "
            f"{family}; load it under its own name, or by its path alone"
        )
    family = family or families[0]
    encoder = _of(family, find_family(family).converter().convert(payload), path, normalize)
    encoder.provenance = provenance
    return encoder


def _of(family: str, converted: Converted, path: Path, normalize: bool | None) -> Encoder:
    config = _normalizing(converted.config, normalize, path)
    encoder = _blank(family, config, str(path))
    _fill_from(encoder, converted, path)
    return encoder


def _fill_from(encoder: Encoder, converted: Converted, path: Path) -> None:
    """Give an encoder on the meta device the weights that a checkpoint holds for it.

    Raises:
        CheckpointError: They do not fit, or several sets of them do, or an adapter belongs to them.
    """
    expected = encoder.state_dict(keep_vars=True)  # only shapes count
    found = converted.keymap.locate(converted.weights, expected)
    refuse_adapter_keys(path, found.unknown)

    def original(name: str) -> str:
        return found.originals.get(name, found.prefix + converted.keymap.original(name))

    if not found.weights and expected:
        keys = ", ".join(list(converted.weights)[:5])
        wanted = ", ".join(original(name) for name in list(expected)[:3])
        raise CheckpointError(
            f"the weights in {path} do not fit the {encoder.family} encoder: none has a name that "
            f"it knows, under any prefix. It holds {keys or 'none'}, ..., expected {wanted}, ..."
        )
    strange = {*found.unknown, *(() if _is_whole(expected, found) else found.unfamiliar)}
    unknown = tuple(key for key in converted.weights if key in strange)
    _fill(encoder, found.weights, unknown, original, str(path))
    if found.unfamiliar:
        logger.warning(
            "%s holds weights beside the encoder that are not known, and are not used: %s",
            path,
            ", ".join(found.unfamiliar[:8]) + (", ..." if len(found.unfamiliar) > 8 else ""),
        )
    encoder.unused_keys = found.dropped


def _normalizing(config: Config, normalize: bool | None, path: Path) -> Config:
    """The configuration with that choice, where it has one to make."""
    if normalize in (None, getattr(config, "normalize", None)) or not hasattr(config, "normalize"):
        return config
    logger.warning(
        "%s says that waveforms are %snormalised, the authors of the model of that name have it "
        "otherwise, and so does the encoder; load a checkpoint of your own by its path alone",
        path,
        "not " if normalize else "",
    )
    return msgspec.structs.replace(config, normalize=normalize)


def _is_whole(expected: Mapping[str, Tensor], found: Renamed) -> bool:
    return all(name in found.weights for name in expected if not name.endswith(OPTIONAL_SUFFIX))


def _read_native(
    path: Path, family: str | None, provenance: Provenance, normalize: bool | None
) -> Encoder:
    try:
        native = read_native(path)
    except CheckpointError:
        if path.suffix == ".safetensors":
            refuse_adapter_alone(path, weights_in(huggingface.read_weights(path)))
        raise
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
    config = _normalizing(config, normalize, path)
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
        CheckpointError: The config does not hold; keys are missing, unexpected (`unknown` ones
            among them) or mis-shaped, and the message lists them as `keymap`'s originals.
    """
    encoder = _blank(family, config, source)
    _fill(encoder, weights, unknown, keymap.original, source)
    return encoder


def _blank(family: str, config: Config, source: str) -> Encoder:
    """An encoder of `family` on the meta device.

    Raises:
        CheckpointError: The configuration does not hold.
    """
    _check_config(config, family, source)
    # Not in a `try`: what fails from here on is not the checkpoint's fault.
    return skeleton(find_family(family).build, config)


def _fill(
    encoder: Encoder,
    weights: Mapping[str, Tensor],
    unknown: tuple[str, ...],
    original: Callable[[str], str],
    source: str,
) -> None:
    """Give an encoder exactly `weights` and put it into eval mode.

    Raises:
        CheckpointError: Keys are missing, unexpected, mis-shaped or not floating point, by their
            `original` names.
    """
    expected = encoder.state_dict(keep_vars=True)  # only shapes count
    weights = {name: _settled(weight) for name, weight in weights.items()}
    for name in expected:
        if name.endswith(OPTIONAL_SUFFIX):
            weights.setdefault(name, torch.zeros((), dtype=torch.int64))
    missing = [original(name) for name in expected if name not in weights]
    unexpected = [*unknown, *(original(name) for name in weights if name not in expected)]
    misshaped = [
        f"{original(name)} is {_shape(weights[name])}, expected {_shape(expected[name])}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    mistyped = [
        f"{original(name)} is {str(weights[name].dtype).removeprefix('torch.')}"
        for name in expected
        if name in weights
        and expected[name].is_floating_point()
        and not weights[name].is_floating_point()
    ]
    if missing or unexpected or misshaped or mistyped:
        problems = (
            ("missing", missing),
            ("unexpected", unexpected),
            ("mis-shaped", misshaped),
            ("not floating point, as quantised weights are", mistyped),
        )
        found = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in problems if keys)
        raise CheckpointError(
            f"the weights in {source} do not fit the {encoder.family} encoder. {found}"
        )
    encoder.load_state_dict(weights, assign=True)
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    encoder.eval()


def _check_config(config: Config, family: str, source: str) -> None:
    """Raise CheckpointError for a config of wrong types, or of sizes that no encoder has."""
    problem = f"the configuration in {source} does not make a {family} encoder"
    try:
        msgspec.json.decode(msgspec.json.encode(config), type=type(config))
    except msgspec.DecodeError as error:
        raise CheckpointError(f"{problem}: {error}") from error
    for name, size in _sizes(msgspec.to_builtins(config), ""):
        if abs(size) > MAX_SIZE:
            raise CheckpointError(f"{problem}: {name} is {size}, expected at most {MAX_SIZE}")


def _sizes(value: object, name: str) -> Iterator[tuple[str, int]]:
    """Every whole number in a config, with its dotted name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _sizes(item, f"{name}.{key}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _sizes(item, f"{name}[{index}]")
    elif isinstance(value, int):
        yield name, value


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
