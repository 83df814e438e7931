"""Arrow files, as the `datasets` library of Hugging Face maps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from auricle.store.folder import Folder
from auricle.store.layout import ShardKey
from auricle.store.shards import (
    IndexBatches,
    Placement,
    ShardFormat,
    WrittenShard,
    path_text,
    values,
)

if TYPE_CHECKING:
    import pyarrow

    from auricle.store.shards import Item

OWN_COLUMNS = ("id", "source", "start", "seconds")

STATE, INFO = "state.json", "dataset_info.json"
"""Files that make a folder one for `datasets.load_from_disk`."""


class ArrowFormat(ShardFormat):
    """An Arrow stream per shard: a row per utterance, a column (frames, dim) per layer.

    Once the store is closed its folder is one that `datasets.load_from_disk` reads.
    """

    name = "arrow"
    suffix = ".arrow"

    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        offsets: list[int] = []
        name = key.file(self.suffix)

        def write(temporary: Path) -> None:
            import pyarrow as pa

            schema = self._schema()
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                for item in items:
                    writer.write_batch(_batch(schema, item, self.layers))
            offsets.extend(_offsets(temporary, len(OWN_COLUMNS)))

        digest = folder.write_whole(name, write)
        owners = [(utterance.id, layer) for utterance, _ in items for layer in self.layers]
        placements = [
            Placement(utterance_id, layer, name, offset)
            for (utterance_id, layer), offset in zip(owners, offsets, strict=True)
        ]
        return WrittenShard(placements, {name: digest})

    def finish(self, folder: Folder, batches: IndexBatches, order: Sequence[str] = ()) -> None:
        names: set[str] = set()
        fingerprint = hashlib.sha256(msgspec.json.encode(self.meta))
        for batch in batches():
            names.update(batch["shard"].unique().to_pylist())
            fingerprint.update("\n".join(batch["id"].to_pylist()).encode())
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in sorted(names)],
            "_fingerprint": fingerprint.hexdigest()[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        info = {
            "description": f"Representations by {self.meta.model}",
            "license": self.meta.licence or "",
        }
        for name, content in ((STATE, state), (INFO, info)):
            folder.write_whole(name, _writing(content))

    def _schema(self) -> pyarrow.Schema:
        import pyarrow as pa

        own = {"id": pa.string(), "source": pa.string(), "start": pa.float64()}
        own["seconds"] = pa.float64()
        value = getattr(pa, self.meta.dtype)()
        layers = {layer.name: pa.list_(pa.list_(value, layer.dim)) for layer in self.meta.layers}
        return pa.schema({**own, **layers})


def _batch(schema: pyarrow.Schema, item: Item, layers: Sequence[str]) -> pyarrow.RecordBatch:
    """An utterance as a row, its values where they are."""
    import pyarrow as pa

    utterance, arrays = item
    own = [utterance.id, path_text(utterance.origin), utterance.start, utterance.seconds]
    columns = [pa.array([value], schema.field(i).type) for i, value in enumerate(own)]
    for layer in layers:
        frames, dim = arrays[layer].shape
        rows = pa.FixedSizeListArray.from_arrays(pa.array(values(arrays[layer]).reshape(-1)), dim)
        columns.append(pa.ListArray.from_arrays(pa.array([0, frames], pa.int32()), rows))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _offsets(path: Path, first_layer: int) -> Iterator[int]:
    """Offsets of the values of each utterance and layer, in bytes from the file's start."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        start = source.read_buffer().address
        source.seek(0)
        for batch in pa.ipc.open_stream(source):
            for column in batch.columns[first_layer:]:
                flat = column.values.values
                yield flat.buffers()[1].address - start if len(flat) else -1


def _writing(content: dict[str, Any]) -> Callable[[Path], None]:
    def write(temporary: Path) -> None:
        temporary.write_text(json.dumps(content, indent=2))

    return write
