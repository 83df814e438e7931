"""HDF5 files with a dataset per utterance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from auricle.optional import optional
from auricle.store.folder import Folder
from auricle.store.layout import ShardKey, component
from auricle.store.shards import (
    Placement,
    ShardFormat,
    WrittenShard,
    values,
)

if TYPE_CHECKING:
    from auricle.store.shards import Item


class Hdf5Format(ShardFormat):
    """A file per shard with a dataset ID where one layer is kept, ID/LAYER where several are.

    The attributes `id` and `layer` of a dataset say what it is of, whatever it is called.
    """

    name = "hdf5"
    suffix = ".h5"
    package = "h5py"

    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        placements: list[Placement] = []
        name = key.file(self.suffix)

        def write(temporary: Path) -> None:
            with optional("h5py", "the hdf5 format"):
                import h5py
            # Made in memory: the HDF5 library crashes where the disk fills while it closes a file.
            with h5py.File(temporary, "w", driver="core", backing_store=False) as file:
                self._fill(file, name, items, placements)
                file.flush()
                temporary.write_bytes(file.id.get_file_image())

        return WrittenShard(placements, {name: folder.write_whole(name, write)})

    def _fill(
        self, file: Any, name: str, items: Sequence[Item], placements: list[Placement]
    ) -> None:
        arrays = [(u, layer, by_layer[layer]) for u, by_layer in items for layer in self.layers]
        paths = [self._path(utterance.id, layer) for utterance, layer, _ in arrays]
        taken = set(paths)
        for path, (utterance, layer, x) in zip(paths, arrays, strict=True):
            # A dataset cannot also be a folder of others.
            is_below = any(str(above) in taken for above in PurePosixPath(path).parents)
            flat = path.replace("/", "%2F") if is_below else path
            dataset = file.create_dataset(flat, data=values(x), track_times=False)
            dataset.attrs["id"], dataset.attrs["layer"] = utterance.id, layer
            offset = dataset.id.get_offset()  # None where it has no values
            offset = -1 if offset is None else offset
            placements.append(Placement(utterance.id, layer, name, offset))

    def _path(self, utterance_id: str, layer: str) -> str:
        below = [] if len(self.layers) == 1 else [layer]
        return "/".join(component(part) for part in [*utterance_id.split("/"), *below])
