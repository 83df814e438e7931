"""The library's own shards: safetensors files, arrays one after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import OutputError
from auricle.extraction.formats.base import Placement, ShardFormat, WrittenShard, raw_bytes
from auricle.extraction.store.folder import Folder
from auricle.extraction.store.layout import ShardKey

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.extraction.formats.base import Item

ALIGNMENT_BYTES = 64
"""Arrays begin where PyTorch would align them, as far as their own sizes let them."""

RESERVED_NAME = "__metadata__"

_TYPE_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}


class StoreFormat(ShardFormat):
    """One safetensors file per shard (https://github.com/huggingface/safetensors, "Format").

    Arrays are named by id where one layer is kept, by id/layer where several are. They lie in the
    order of the items, so that an utterance's layers are together.
    """

    name = "store"
    suffix = ".safetensors"
    dtypes = ("float32", "float16", "bfloat16", "int64")

    def check_id(self, utterance_id: str) -> None:
        super().check_id(utterance_id)
        if utterance_id == RESERVED_NAME:
            raise OutputError(
                f"the id {utterance_id!r} has a meaning in safetensors files; rename it"
            )

    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        arrays: dict[str, Tensor] = {}
        owners: list[tuple[str, str]] = []
        for utterance, layers in items:
            for layer in self.layers:
                name = utterance.id if len(self.layers) == 1 else f"{utterance.id}/{layer}"
                if name in arrays or name == RESERVED_NAME:
                    raise OutputError(f"the name {name!r} comes twice; rename the utterance")
                arrays[name] = layers[layer]
                owners.append((utterance.id, layer))
        header, offsets = _header(arrays, self.meta.dtype)
        file_name = key.file(self.suffix)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                file.write(header)
                for x in arrays.values():
                    file.write(raw_bytes(x).data)

        digest = folder.write_whole(file_name, write)
        placements = [
            Placement(utterance_id, layer, file_name, offset)
            for (utterance_id, layer), offset in zip(owners, offsets, strict=True)
        ]
        return WrittenShard(placements, {file_name: digest})


def _header(arrays: dict[str, Tensor], dtype: str) -> tuple[bytes, list[int]]:
    """What stands before the arrays, and where each begins, in bytes from the file's start."""
    entries: dict[str, object] = {RESERVED_NAME: {"auricle_store": "1"}}
    starts: list[int] = []
    end = 0
    for name, x in arrays.items():
        starts.append(end)
        start, end = end, end + x.nbytes
        entries[name] = {
            "dtype": _TYPE_NAMES[dtype],
            "shape": [*x.shape],
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT_BYTES)
    header = len(text).to_bytes(8, "little") + text
    return header, [len(header) + start for start in starts]
