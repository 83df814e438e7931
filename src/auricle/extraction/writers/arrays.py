"""Formats of one array per utterance and layer: .npy, WebDataset, HDF5 and text; and Arrow files.

Arrow files are as the `datasets` library of Hugging Face maps them.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from auricle.errors import OutputError
from auricle.optional import optional
from auricle.store.folder import Folder
from auricle.store.layout import DATA, ShardKey, component, file_stem
from auricle.store.reader import Store
from auricle.store.shards import (
    IndexBatches,
    Placement,
    ShardFormat,
    StoreFormat,
    WrittenShard,
    path_text,
    values,
)
from auricle.units.codebook import text_line

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray
    from torch import Tensor

    from auricle.corpus.utterance import Utterance
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


class TextFormat(StoreFormat):
    """The library's own shards, and all of their codes as text once the store is closed.

    LAYER.txt has a line for each utterance, `id 12 12 7`, in the order of the corpus.
    """

    name = "text"
    dtypes = ("int16", "int32", "int64")
    hint = "; integers are what units= (--units) and codes=True (--codes) give"

    def check_id(self, utterance_id: str) -> None:
        super().check_id(utterance_id)
        if utterance_id.split() != [utterance_id]:
            raise OutputError(
                f"an id that begins a line of text holds no white space, but {utterance_id!r} "
                "does; rename it"
            )

    def finish(self, folder: Folder, batches: IndexBatches, order: Sequence[str] = ()) -> None:
        store = Store(folder, self.meta)
        for layer in self.layers:

            def write(temporary: Path, layer: str = layer) -> None:
                with temporary.open("w", encoding="utf-8", newline="\n") as file:
                    for utterance_id in dict.fromkeys((*order, *store)):
                        if utterance_id in store:  # and has not failed
                            x = store.get(utterance_id, layer=layer)
                            codes = x[:, 0] if x.shape[1] == 1 else x
                            file.write(text_line(utterance_id, codes).rstrip() + "\n")

            folder.write_whole(f"{component(layer)}.txt", write)


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
            folder.write_whole(name, _arrow_writing(content))

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


def _arrow_writing(content: dict[str, Any]) -> Callable[[Path], None]:
    def write(temporary: Path) -> None:
        temporary.write_text(json.dumps(content, indent=2))

    return write
