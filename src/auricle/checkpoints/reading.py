"""From files to a `Checkpoint`: the library's own, original ones, and bare tensors.

Bare tensors are weights by name in a file that does not say which encoder they are of: a state dict
saved alone (`safetensors.torch.save_file`, `torch.save(model.state_dict())`) or by a trainer
(`{"state_dict": ..., "optimizer_states": ...}`). They load once family and configuration are given.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from torch import Tensor

from auricle.catalogue.family import find_family
from auricle.catalogue.search import repository_hint
from auricle.checkpoints import huggingface, self_distilled, toolkits
from auricle.checkpoints.checkpoint import (
    UNKNOWN,
    Checkpoint,
    blank_encoder,
    check_config,
    check_weights,
    complete_weights,
)
from auricle.checkpoints.formats import (
    FORMATS,
    Format,
    Payload,
    convert_bare,
    formats_for,
    published_elsewhere,
    recognise,
)
from auricle.checkpoints.keymap import OPTIONAL_SUFFIX, Converted, Renamed
from auricle.checkpoints.options import Configuration, options_to_change, read_configuration
from auricle.checkpoints.state_dicts import (
    ADAPTER_KEYS,
    WITHOUT_ADAPTERS,
    refuse_adapter_alone,
    refuse_adapter_keys,
    state_dict,
    weights_in,
)
from auricle.errors import CheckpointError, UnknownModelError
from auricle.files.safetensors import NativeCheckpoint, is_native, is_own, read_native
from auricle.info import Provenance
from auricle.models.definition import Config

logger = logging.getLogger(__name__)

CONFIG_PATTERNS = ("*.cfg", "*.json")
"""Names of a configuration that lies beside its checkpoint, in the order to try them."""


def read_checkpoint(
    path: Path,
    *,
    family: str | None,
    provenance: Provenance,
    config: Configuration | None = None,
    normalize: bool | None = None,
    published: Config | None = None,
    without_adapters: bool = False,
) -> Checkpoint:
    """Read a checkpoint file; nothing in it is executed.

    Args:
        path: The library's own `.safetensors` file or an original checkpoint (a file, or the
            folder of a Hugging Face model).
        family: The family it must be of; None to take the one that follows from its content.
        provenance: Its origin; what the library's own file says takes precedence.
        config: For a format that keeps its configuration in a file of its own, and for bare
            tensors: that file or its content, where it does not lie beside the checkpoint. For
            others a mapping of fields of the family's configuration to change.
        normalize: Whether the encoder normalises waveforms, whatever the checkpoint says; None
            where that decides. For encoders that may.
        published: The configuration of the size that bare tensors must have, without `config`.
        without_adapters: Whether adapters of the checkpoint are left out instead of refused.

    Returns:
        The checkpoint. The weights of the library's own file are checked when it is built.

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
    huggingface.refuse_adapters(path, without_adapters=without_adapters)
    # Where nothing is given a configuration beside the weights is nearer than the published one.
    given = published if config is None and not has_configuration(path) else config
    if family is not None and given is not None and not is_own(path):
        weights = read_bare(path, formats_for(family))
        if weights is not None:
            converted = convert_bare(weights, family, given, without_adapters=without_adapters)
            if without_adapters:
                converted = _without_adapters(converted)
            return _checkpoint(family, converted, path, normalize, provenance)
    if is_native(path) and (is_own(path) or not _names_tell(path)):
        options = options_to_change(config, path)
        native = _read_native(path)
        return native_checkpoint(
            native, path, family=family, provenance=provenance, normalize=normalize
        ).changed(options)
    layout, payload = read_original(path, config, formats_for(family))
    families = layout.families(payload)
    if family is not None and family not in families:
        raise CheckpointError(
            f"{path} is a checkpoint of {' or '.join(families)} (format {layout.name}), not of "
            f"{family}; load it under its own name, or by its path alone"
        )
    family = family or families[0]
    if without_adapters:
        payload = {**payload, WITHOUT_ADAPTERS: True}
    converted = layout.convert(payload, find_family(family))
    if without_adapters:
        converted = _without_adapters(converted)
    checkpoint = _checkpoint(family, converted, path, normalize, provenance)
    if not layout.holds_config:  # which has read the configuration that is given
        return checkpoint
    return checkpoint.changed(options_to_change(config, path))


def native_checkpoint(
    native: NativeCheckpoint,
    path: Path,
    *,
    family: str | None,
    provenance: Provenance = UNKNOWN,
    normalize: bool | None = None,
) -> Checkpoint:
    """The checkpoint of a file of the library's own; its weights are checked when it is built.

    Args:
        native: The content of the file.
        path: The file.
        family: As of `read_checkpoint`.
        provenance: As of `read_checkpoint`.
        normalize: As of `read_checkpoint`.

    Raises:
        CheckpointError: It is of another family, or its configuration does not hold.
    """
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
    try:
        config = msgspec.json.decode(native.config, type=native_family.config_type())
    except msgspec.DecodeError as error:
        raise CheckpointError(f"the configuration in {path} does not hold: {error}") from error
    known = {
        name: value
        for name, value in dataclasses.asdict(native.provenance).items()
        if value is not None
    }
    if native.provenance.source_url or native.provenance.sha256:
        # These two belong together: a digest is that of the file at its own source.
        provenance = dataclasses.replace(provenance, source_url=None, sha256=None)
    return Checkpoint(
        family=native.family,
        config=_normalizing(config, normalize, path),
        weights=native.weights,
        provenance=dataclasses.replace(provenance, **known),
        source=str(path),
    )


def read_original(
    path: Path, config: Configuration | None, formats: Iterable[Format] | None = None
) -> tuple[Format, Payload]:
    """The format of an original checkpoint and the payload to convert; nothing is executed.

    Args:
        path: A checkpoint file, or the folder of a Hugging Face model.
        config: The configuration, for a format that keeps it in a file of its own; None to take
            the one that lies beside the checkpoint, if any.
        formats: The formats to try, in this order; None for the library's own.

    Raises:
        CheckpointError: A file is missing, unsafe, damaged or in no known format; `config` is
            a file, and the checkpoint holds its own.
    """
    layout, content = _recognised(path, formats)
    if not layout.holds_config:
        if config is None:
            config = _beside(path, layout) if layout.needs_config else _named_beside(path, layout)
        weights = state_dict(content, str(path))
        return layout, {"weights": weights, "config": read_configuration(config)}
    options_to_change(config, f"{path} (format {layout.name})")
    return layout, content


def read_bare(path: Path, formats: Iterable[Format] = FORMATS) -> dict[str, Tensor] | None:
    """The weights of a file that does not say which encoder they are of; None for other files.

    Args:
        path: The file.
        formats: Layouts that say which encoder their weights are of.

    Raises:
        CheckpointError: The file is unsafe or damaged.
    """
    if not path.is_file():
        return None
    content = huggingface.read_weights(path)
    if not isinstance(content, Mapping) or any(
        layout.matches(content) for layout in formats if layout.holds_config
    ):
        return None
    if published_elsewhere(content):
        return None
    return weights_in(content) or None


def has_configuration(path: Path) -> bool:
    """Return whether a file beside a checkpoint can only be its configuration."""
    return (
        huggingface.is_huggingface_folder(path.parent)
        or toolkits.hyperparameters(path.parent) is not None
        or path.with_suffix(".json").is_file()
        or any(path.parent.glob("*.cfg"))
    )


def _checkpoint(
    family: str, converted: Converted, path: Path, normalize: bool | None, provenance: Provenance
) -> Checkpoint:
    """The checkpoint of an original file, whose weights are renamed and checked.

    Raises:
        CheckpointError: They do not fit, or several sets of them do, or an adapter belongs to them.
    """
    config = _normalizing(converted.config, normalize, path)
    check_config(config, family, str(path))
    # Not in a `try`: the checkpoint is not at fault for failures of this.
    expected = blank_encoder(find_family(family), config).state_dict(keep_vars=True)
    found = converted.keymap.locate(converted.weights, expected)
    refuse_adapter_keys(path, found.unknown)

    def original(name: str) -> str:
        return found.originals.get(name, found.prefix + converted.keymap.original(name))

    if not found.weights and expected:
        keys = ", ".join(list(converted.weights)[:5])
        wanted = ", ".join(original(name) for name in list(expected)[:3])
        raise CheckpointError(
            f"the weights in {path} do not fit the {family} encoder: none has a name that "
            f"it knows, under any prefix. It holds {keys or 'none'}, ..., expected {wanted}, ..."
        )
    strange = {*found.unknown, *(() if _is_whole(expected, found) else found.unfamiliar)}
    unknown = [key for key in converted.weights if key in strange]
    weights = complete_weights(found.weights, expected)
    check_weights(weights, expected, family, str(path), unknown=unknown, original=original)
    if found.averages:
        logger.warning(
            "%s holds moving averages of the weights too, under %s, which are not used; save them "
            "in a file of their own to load them",
            path,
            ", ".join(prefix.rstrip(".") for prefix in found.averages),
        )
    if found.unfamiliar:
        logger.warning(
            "%s holds weights beside the encoder that are not known, and are not used: %s",
            path,
            ", ".join(found.unfamiliar[:8]) + (", ..." if len(found.unfamiliar) > 8 else ""),
        )
    return Checkpoint(
        family=family,
        config=config,
        weights=weights,
        unused_keys=found.dropped,
        provenance=provenance,
        source=str(path),
    )


def _without_adapters(converted: Converted) -> Converted:
    """A conversion whose weights of adapters count as not needed."""
    pretraining = (*converted.keymap.pretraining, *ADAPTER_KEYS)
    keymap = dataclasses.replace(converted.keymap, pretraining=pretraining)
    return dataclasses.replace(converted, keymap=keymap)


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


def _read_native(path: Path) -> NativeCheckpoint:
    try:
        return read_native(path)
    except CheckpointError:
        if path.suffix == ".safetensors":
            weights = weights_in(huggingface.read_weights(path))
            refuse_adapter_alone(path, weights)
        raise


def _names_tell(path: Path) -> bool:
    """Return whether the names of bare tensors say which encoder they are of."""
    content = huggingface.read_weights(path)
    return isinstance(content, Mapping) and any(layout.matches(content) for layout in FORMATS)


def _recognised(path: Path, formats: Iterable[Format] | None) -> tuple[Format, Payload]:
    """The format of a checkpoint and its content.

    Files in the folder of a Hugging Face model need not be of that model: repositories hold the
    authors' files beside theirs. So the content decides, and the folder where it does not.
    """
    if toolkits.is_speechbrain_folder(path):
        content = huggingface.read_weights(path / toolkits.SPEECHBRAIN_WEIGHTS)
    elif path.is_dir():
        content = huggingface.read_folder_weights(path)
    elif path.name == huggingface.CONFIG_FILE and huggingface.is_huggingface_folder(path.parent):
        content = huggingface.read_folder_weights(path.parent)
    else:
        content = huggingface.read_weights(path)
    folder = path if path.is_dir() else path.parent
    refuse_adapter_alone(path, weights_in(content))
    if not huggingface.is_huggingface_folder(folder) or self_distilled.matches_spidr(content):
        return recognise(content, formats)
    if not huggingface.has_own_names(content):
        try:
            return recognise(content, formats)
        except CheckpointError:  # no layout that says what it is
            pass
    return recognise(huggingface.payload(folder, content))


def _named_beside(path: Path, layout: Format) -> Configuration:
    """The JSON file beside a checkpoint that has its name, or the name that its format gives.

    Without one, an empty configuration.
    """
    folder = path if path.is_dir() else path.parent
    name = layout.config_file
    file = path.with_suffix(".json") if name is None else folder / name
    return file if file.is_file() else {}


def _beside(path: Path, layout: Format) -> Path:
    """The one configuration file in the folder of a checkpoint."""
    if layout.config_file is not None:
        file = toolkits.hyperparameters(path if path.is_dir() else path.parent)
        if file is None:
            raise CheckpointError(
                f"{path} needs {layout.config_file} beside it, or config= (--config) with its path"
            )
        return file
    for pattern in CONFIG_PATTERNS:
        found = sorted(path.parent.glob(pattern))
        same_name = [file for file in found if file.stem == path.stem]
        if len(same_name or found) == 1:
            return (same_name or found)[0]
        if found:
            names = ", ".join(file.name for file in found)
            raise CheckpointError(
                f"several files beside {path} may be its configuration: {names}; pass config= "
                "with the path of the right one"
            )
    raise CheckpointError(
        f"{path} needs its configuration, the JSON file that its authors publish with it "
        "(PASE.cfg, PASE+.cfg), and there is none beside it; pass config= (on the command line "
        "--config) with its path"
    )
