"""A .npy file per utterance and layer, for those who want nothing but NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.store.folder import Folder
from auricle.store.layout import DATA, ShardKey, component, file_stem
from auricle.store.shards import Placement, ShardFormat, WrittenShard, values

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from auricle.store.shards import Item


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
    return lambda temporary: save_npy(temporary, values(x))


def save_npy(path: Path, array: NDArray[Any]) -> None:
    """Write one array as `numpy.save` does; raises OSError that says why where it cannot."""
    import numpy as np

    contiguous = np.ascontiguousarray(array)
    # np.save writes past Python's file object and so loses the reason of a failure (disk full).
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(contiguous)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(contiguous.data)
