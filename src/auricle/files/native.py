"""The library's own checkpoint format: safetensors, with config and origin in the metadata."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import CheckpointError, OutputError
from auricle.files.atomic import write_whole
from auricle.files.safetensors import aligned_first, write_safetensors
from auricle.info import Provenance

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_KEY = "auricle_format"
FORMAT_VERSION = "1"
PADDING_KEY = "padding"
"""Key in the metadata of files of an earlier version, which were aligned by its length."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NativeCheckpoint:
    """The content of a file: a family, its config as JSON, weights by name, and their origin.

    `extra` is the rest of its metadata, such as the recipe of its training.
    """

    family: str
    config: str
    provenance: Provenance
    weights: Mapping[str, Tensor]
    extra: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write_native(path: Path, checkpoint: NativeCheckpoint) -> None:
    """Write a checkpoint to `path`.

    Raises:
        OutputError: The name does not end in `.safetensors`, or the file cannot be written.
    """
    if path.suffix != ".safetensors":
        raise OutputError(f"cannot save to {path}: expected a name that ends in .safetensors")
    metadata = {
        **checkpoint.extra,
        FORMAT_KEY: FORMAT_VERSION,
        "family": checkpoint.family,
        "config": checkpoint.config,
    }
    origin = dataclasses.asdict(checkpoint.provenance)
    metadata.update({key: value for key, value in origin.items() if value is not None})
    weights = aligned_first(checkpoint.weights)
    write_whole(path, lambda temporary: write_safetensors(temporary, weights, metadata))


def is_native(path: Path) -> bool:
    """True if `path` is to be read as a file of the library's own.

    That is a file with the key of the format in its metadata, whatever its name, and any other
    `.safetensors` file outside the folder of a Hugging Face model.
    """
    if not path.is_file():
        return False
    is_in_model_folder = (path.parent / "config.json").is_file()
    if path.suffix == ".safetensors" and not is_in_model_folder:
        return True
    return is_own(path)


def is_own(path: Path) -> bool:
    """True if `path` has the key of the library's own format in its metadata."""
    return path.is_file() and FORMAT_KEY in _metadata(path)


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return {}


def read_native(path: Path) -> NativeCheckpoint:
    """Read a checkpoint; its weights are mapped into memory, not copied.

    Raises:
        CheckpointError: The file is damaged or is not one of the library's own.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file: {error}; copy or fetch it again"
        ) from error
    if metadata.get(FORMAT_KEY) != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} holds weights but not which encoder they belong to: expected the metadata "
            f"{FORMAT_KEY}={FORMAT_VERSION}, got {metadata.get(FORMAT_KEY)!r}; a Hugging Face file "
            "needs its folder with config.json, bare tensors need family= and config= (on the "
            "command line --model FAMILY --checkpoint FILE --config JSON), or the name of a "
            "published model of their size and checkpoint="
        )
    missing = [key for key in ("family", "config") if key not in metadata]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)} in its metadata")
    origin = {field.name: metadata.get(field.name) for field in dataclasses.fields(Provenance)}
    known = {FORMAT_KEY, PADDING_KEY, "family", "config", *origin}
    return NativeCheckpoint(
        family=metadata["family"],
        config=metadata["config"],
        provenance=Provenance(**origin),
        weights=weights,
        extra={key: value for key, value in metadata.items() if key not in known},
    )
