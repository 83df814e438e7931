"""Safetensors files whose arrays are aligned, and the library's own checkpoints among them.

The writer of the package safetensors orders arrays by name, where one of an odd size misaligns all
after it. The format leaves the order open
(https://github.com/huggingface/safetensors, "Format"). Checkpoints have config and origin in the
metadata.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import CheckpointError, OutputError
from auricle.files.atomic import write_whole
from auricle.info import Provenance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

ALIGNMENT_BYTES = 64
"""Alignment of PyTorch's memory; a mapped array is aligned as it is in the file."""

METADATA = "__metadata__"

TYPE_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""PyTorch's name of a type -> the format's name."""


def write_safetensors(
    path: Path, arrays: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> list[int]:
    """Write arrays, in their order, and metadata; the first array is aligned.

    Args:
        path: The file.
        arrays: By name, in any of `TYPE_NAMES`; none is called `METADATA`.
        metadata: Texts by name.

    Returns:
        The offset of each array, in bytes from the file's start.

    Raises:
        OSError: It cannot be written.
        ValueError: An array has another type.
    """
    entries: dict[str, object] = {METADATA: dict(metadata)}
    starts: list[int] = []
    end = 0
    for name, x in arrays.items():
        starts.append(end)
        start, end = end, end + x.nbytes
        kind = TYPE_NAMES.get(str(x.dtype).removeprefix("torch."))
        if kind is None:
            raise ValueError(f"{name} is of type {x.dtype}, expected {', '.join(TYPE_NAMES)}")
        entries[name] = {"dtype": kind, "shape": [*x.shape], "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT_BYTES)
    header = len(text).to_bytes(8, "little") + text
    with path.open("wb") as file:
        file.write(header)
        for x in arrays.values():
            file.write(raw_bytes(x).data)
    return [len(header) + start for start in starts]


def aligned_first(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sort arrays so that those are last whose sizes would misalign others."""

    def place(item: tuple[str, Tensor]) -> tuple[bool, int, str]:
        name, x = item
        return x.nbytes % ALIGNMENT_BYTES > 0, -x.dtype.itemsize, name

    return dict(sorted(arrays.items(), key=place))


def raw_bytes(x: Tensor) -> NDArray[np.uint8]:
    """The bytes (N,) of an array of any type, without a copy if it is contiguous."""
    import torch

    return x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


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
