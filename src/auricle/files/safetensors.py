"""Write safetensors files whose arrays are aligned, so that they can be mapped into memory.

The writer of the package safetensors orders arrays by name, where one of an odd size misaligns all
after it. The format leaves the order open
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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
