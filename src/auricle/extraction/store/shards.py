"""The library's own shards: safetensors files, arrays one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import OutputError
from auricle.extraction.formats.base import Placement, ShardFormat, WrittenShard
from auricle.extraction.store.folder import Folder
from auricle.extraction.store.layout import ShardKey
from auricle.files.safetensors import METADATA, write_safetensors

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.extraction.formats.base import Item


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
        if utterance_id == METADATA:
            raise OutputError(
                f"the id {utterance_id!r} has a meaning in safetensors files; rename it"
            )

    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        arrays: dict[str, Tensor] = {}
        owners: list[tuple[str, str]] = []
        for utterance, layers in items:
            for layer in self.layers:
                name = utterance.id if len(self.layers) == 1 else f"{utterance.id}/{layer}"
                if name in arrays or name == METADATA:
                    raise OutputError(f"the name {name!r} comes twice; rename the utterance")
                arrays[name] = layers[layer]
                owners.append((utterance.id, layer))
        file_name = key.file(self.suffix)
        offsets: list[int] = []

        def write(temporary: Path) -> None:
            offsets[:] = write_safetensors(temporary, arrays, {"auricle_store": "1"})

        digest = folder.write_whole(file_name, write)
        placements = [
            Placement(utterance_id, layer, file_name, offset)
            for (utterance_id, layer), offset in zip(owners, offsets, strict=True)
        ]
        return WrittenShard(placements, {file_name: digest})
