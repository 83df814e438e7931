"""WebDataset shards: tar files of a .npy per layer and a .json per utterance."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.store.folder import Folder
from auricle.store.layout import ShardKey, component, file_stem
from auricle.store.shards import Placement, ShardFormat, WrittenShard, values

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.corpus.utterance import Utterance
    from auricle.store.shards import Item


class WebDatasetFormat(ShardFormat):
    """A tar file per shard with KEY.LAYER.npy and KEY.json (id, source, start, seconds).

    A key is the id as a file name without dots, for WebDataset ends it at the first.
    """

    name = "webdataset"
    suffix = ".tar"

    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        placements: list[Placement] = []
        name = key.file(self.suffix)

        def write(temporary: Path) -> None:
            with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
                for utterance, arrays in items:
                    stem = sample_key(utterance.id)
                    for layer in self.layers:
                        offset = _add(
                            archive, f"{stem}.{component(layer)}.npy", _npy(arrays[layer])
                        )
                        offset -= arrays[layer].nbytes
                        placements.append(Placement(utterance.id, layer, name, offset))
                    _add(archive, f"{stem}.json", _json(utterance))

        return WrittenShard(placements, {name: folder.write_whole(name, write)})


def sample_key(utterance_id: str) -> str:
    """An id as WebDataset's key."""
    folder, slash, last = file_stem(utterance_id).rpartition("/")
    return f"{folder}{slash}{last.replace('.', '%2E')}"


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a file that says nothing of this machine or hour, and say where it ends, in bytes."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
    return archive.offset - -len(content) % tarfile.BLOCKSIZE


def _npy(x: Tensor) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, values(x))
    return buffer.getvalue()


def _json(utterance: Utterance) -> bytes:
    content = {
        "id": utterance.id,
        "source": utterance.origin,
        "start": utterance.start,
        "seconds": utterance.seconds,
    }
    return json.dumps(content).encode()
