"""From the files of an original checkpoint to what converters read."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from auricle.checkpoints import huggingface
from auricle.checkpoints.adapters import refuse_adapter_alone
from auricle.checkpoints.converted import state_dict, weights_in
from auricle.checkpoints.formats import Format, Payload, recognise
from auricle.errors import CheckpointError

CONFIG_PATTERNS = ("*.cfg", "*.json")
"""Where a configuration that lies beside its checkpoint is looked for, in this order."""

Configuration = str | Path | Mapping[str, Any] | argparse.Namespace
"""A configuration: the path of a JSON file, or what such a file holds."""


def read_original(
    path: Path, config: Configuration | None, formats: Iterable[Format] | None = None
) -> tuple[Format, Payload]:
    """The format of an original checkpoint and what its converter reads; nothing is executed.

    Args:
        path: A checkpoint file, or the folder of a Hugging Face model.
        config: The configuration, for a format that keeps it in a file of its own; None to take
            the one that lies beside the checkpoint.
        formats: The formats to try, in this order; None for the library's own.

    Raises:
        CheckpointError: A file is missing, unsafe, damaged or in no known format; `config` is
            given for a checkpoint that holds its own.
    """
    layout, content = _recognised(path, formats)
    if layout.needs_config or layout.takes_config:
        given = _configuration(path, {} if config is None and layout.takes_config else config)
        return layout, {"weights": state_dict(content, str(path)), "config": given}
    if config is not None:
        raise CheckpointError(
            f"{path} (format {layout.name}) brings its own configuration; leave config= out"
        )
    return layout, content


def _recognised(path: Path, formats: Iterable[Format] | None) -> tuple[Format, Payload]:
    """The format of a checkpoint and what it holds.

    What lies in the folder of a Hugging Face model need not be of that model: repositories hold
    the authors' files beside theirs. So the content decides, and the folder where it does not.
    """
    if path.is_dir():
        content = huggingface.read_folder_weights(path)
    elif path.name == huggingface.CONFIG_FILE and huggingface.is_huggingface_folder(path.parent):
        content = huggingface.read_folder_weights(path.parent)
    else:
        content = huggingface.read_weights(path)
    folder = path if path.is_dir() else path.parent
    refuse_adapter_alone(path, weights_in(content))
    if not huggingface.is_huggingface_folder(folder):
        return recognise(content, formats)
    if not huggingface.has_own_names(content):
        try:
            return recognise(content, formats)
        except CheckpointError:  # no layout that says what it is
            pass
    return recognise(huggingface.payload(folder, content))


def _configuration(path: Path, config: Configuration | None) -> Mapping[str, Any]:
    return read_configuration(_beside(path) if config is None else config)


def read_configuration(config: Configuration) -> Mapping[str, Any]:
    """What a configuration holds.

    Raises:
        CheckpointError: Its file is no JSON object that can be read.
    """
    if isinstance(config, Mapping):
        return config
    if isinstance(config, argparse.Namespace):
        return vars(config)
    file = Path(config)
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise CheckpointError(f"{file} is not a readable JSON configuration: {error}") from error


def has_configuration(path: Path) -> bool:
    """Whether a file beside a checkpoint can only be its configuration."""
    return (
        huggingface.is_huggingface_folder(path.parent)
        or path.with_suffix(".json").is_file()
        or any(path.parent.glob("*.cfg"))
    )


def _beside(path: Path) -> Path:
    """The one configuration file in the folder of a checkpoint."""
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
