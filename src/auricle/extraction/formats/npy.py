"""A .npy file per utterance and layer, for those who want nothing but NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.extraction.formats.base import Placement, ShardFormat, WrittenShard, values
from auricle.extraction.formats.naming import component, file_stem
from auricle.extraction.store.folder import Folder
from auricle.extraction.store.layout import DATA, ShardKey

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.extraction.formats.base import Item


class NpyFormat(ShardFormat):
    """data/ID.npy where one layer is kept, data/LAYER/ID.npy where several are."""

    name = "npy"
    suffix = ".npy"

    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        placements, files = [], {}
        for utterance, arrays in items:
            for layer in self.layers:
                name = self._file(utterance.id, layer)
                files[name] = folder.write_whole(name, _writing(arrays[layer]))
                offset = files[name].size - arrays[layer].nbytes
                placements.append(Placement(utterance.id, layer, name, offset))
        return WrittenShard(placements, files)

    def _file(self, utterance_id: str, layer: str) -> str:
        above = DATA if len(self.layers) == 1 else f"{DATA}/{component(layer)}"
        return f"{above}/{file_stem(utterance_id, self.suffix)}{self.suffix}"


def _writing(x: Tensor) -> Callable[[Path], None]:
    def write(temporary: Path) -> None:
        import numpy as np

        with temporary.open("wb") as file:
            np.save(file, values(x))

    return write
