"""Reader of a store: arrays by id, in order, as one matrix."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from auricle.errors import LayerError, StoreError, UnknownUtteranceError
from auricle.optional import optional
from auricle.store.dataset import StoreDataset, frame_spans, mean_rows
from auricle.store.folder import Folder, open_folder
from auricle.store.index import Damage, read_index
from auricle.store.layout import StoreMeta, read_meta
from auricle.store.shards import ShardMaps, verify

if TYPE_CHECKING:
    import pandas
    import pyarrow

NUM_NEIGHBOURS = 500
"""Ids on either side of a missing one among which similar ones are looked for."""


def open_store(location: str | Path) -> Store:
    """Open a folder of representations, whichever format its shards have.

    Args:
        location: Path of the folder, or an address that fsspec knows (`s3://...`).

    Returns:
        The store, which reads an array when it is asked for.

    Raises:
        StoreError: There is no store, or its index is damaged.
        MissingExtraError: The package that reads from such an address is not installed.
    """
    folder = open_folder(location)
    meta = read_meta(folder)
    if meta is None:
        what = "has no meta.json" if folder.sizes() else "does not exist, or is empty"
        raise StoreError(
            f"{folder.location} is not a store: it {what}; give the folder that an extraction wrote"
        )
    return Store(folder, meta)


open = open_store  # noqa: A001 - the shorter name, as `auricle.open`


class Store:
    """Representations by the ids of utterances; `open_store` makes it.

    `store[id]` is (T, D), or a dict of such by layer where several are kept. Arrays are mapped
    from disk, not copied: what is written to one does not reach the disk, but may be seen by
    who asks for it again; clone what you change. Iterating gives ids, sorted.

    A store that is still being written is read as far as it was when opened. It can be pickled,
    and read from any number of threads.
    """

    def __init__(self, folder: Folder, meta: StoreMeta) -> None:
        self.meta = meta
        self._folder = folder
        self._maps = ShardMaps(folder, compression=meta.compression)
        self._layers = tuple(layer.name for layer in meta.layers)
        self._ids, self._rows = _read_rows(folder, meta)

    @property
    def is_closed(self) -> bool:
        """True if the run that writes it was done when it was opened."""
        return self.meta.closed

    @property
    def location(self) -> str:
        """Path or address of the store."""
        return self._folder.location

    @property
    def ids(self) -> list[str]:
        """All ids, sorted."""
        return list(self._ids)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of what is kept of every utterance."""
        return self._layers

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        state = "" if self.is_closed else ", not closed"
        layers = ", ".join(self._layers)
        what = f"{len(self)} utterances of {self.meta.model} ({layers})"
        return f"<Store {self.location}: {what}{state}>"

    def __contains__(self, utterance_id: object) -> bool:
        return isinstance(utterance_id, str) and self._ids.find(utterance_id) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __getitem__(self, utterance_id: str) -> Tensor | dict[str, Tensor]:
        return self.at(self._position(utterance_id))

    def get(self, utterance_id: str, *, layer: str | None = None) -> Tensor:
        """The array (T, D) of an utterance.

        Args:
            utterance_id: Its id.
            layer: Which of its arrays; may be left out where one is kept.

        Returns:
            Tensor of T frames (one where they were pooled) by D columns, in the type it was
            written in, mapped from disk.

        Raises:
            UnknownUtteranceError: The store does not hold it.
            LayerError: It keeps no such layer, or several and none was named.
            StoreError: The shard is cut or not there.
        """
        number = self._layer_number(layer)
        return self._array(self._position(utterance_id), number)

    def id_at(self, index: int) -> str:
        """The id at `index` in sorted order."""
        return self._ids[index]

    def at(self, index: int, *, layer: str | None = None) -> Tensor | dict[str, Tensor]:
        """The value of `store[id]` for the id at `index` in sorted order, or one layer of it."""
        if layer is None and len(self._layers) > 1:
            return {name: self._array(index, i) for i, name in enumerate(self._layers)}
        return self._array(index, self._layer_number(layer))

    def items(self) -> Iterator[tuple[str, Tensor | dict[str, Tensor]]]:
        """Ids, sorted, each with what `store[id]` gives."""
        return ((name, self.at(position)) for position, name in enumerate(self._ids))

    def num_frames(self, utterance_id: str, *, layer: str | None = None) -> int:
        """Rows of the array of an utterance, without reading it; errors are those of `get`."""
        number = self._layer_number(layer)
        return int(self._rows.frames[self._position(utterance_id) * len(self._layers) + number])

    def dataset(
        self,
        *,
        layer: str | None = None,
        ids: Sequence[str] | None = None,
        labels: Mapping[str, Any] | None = None,
    ) -> StoreDataset:
        """Pairs of id and array for a `DataLoader`, or triples with a label.

        Args:
            layer: Which array; where several are kept and none is named, each comes as a dict.
            ids: Utterances, in the order of the data set, as of a split; None for all, sorted.
            labels: A label for each of them; None for pairs.

        Raises:
            UnknownUtteranceError: The store does not hold an id.
            LayerError: The store keeps no such layer.
            StoreError: An utterance has no label.
        """
        if layer is not None:
            self._layer_number(layer)
        places = range(len(self)) if ids is None else [self._position(one) for one in ids]
        return StoreDataset(self, places, layer, labels)

    def matrix(self, *, layer: str | None = None) -> tuple[list[str], Tensor]:
        """All ids, and a row for each: its pooled vector, or the mean over its frames.

        Args:
            layer: Which array; may be left out where one is kept.

        Returns:
            Ids, sorted, and a tensor (N, D), float32, in memory.

        Raises:
            LayerError: The store keeps no such layer, or several and none was named.
            StoreError: It keeps integers, which have no mean; a shard is cut or not there.
        """
        number = self._layer_number(layer)
        arrays = (self._array(place, number) for place in range(len(self)))
        shape = len(self), self.meta.layers[number].dim
        return self.ids, mean_rows(arrays, shape, self.meta.dtype)

    def frame_times(self, utterance_id: str, *, layer: str | None = None) -> Tensor:
        """Start and end of the receptive field of each frame, as `Encoder.frame_times` gives them.

        Args:
            utterance_id: Its id.
            layer: Which of its arrays; may be left out where one is kept.

        Returns:
            Tensor (T, 2), float64, in seconds from the start of the utterance, which is that of
            its part of the file where it is one.

        Raises:
            UnknownUtteranceError, LayerError: As for `get`.
            StoreError: Rows are not frames, or an earlier version began the store.
        """
        number = self._layer_number(layer)
        row = self._position(utterance_id) * len(self._layers) + number
        num_frames, seconds = int(self._rows.frames[row]), float(self._rows.seconds[row])
        return frame_spans(self.meta, number, num_frames, seconds)

    def to_pandas(self) -> pandas.DataFrame:
        """The index as it is on disk now: a row per utterance and layer.

        Raises:
            MissingExtraError: pandas is not installed.
            StoreError: The index is damaged.
        """
        with optional("pandas", "to_pandas"):
            import pandas  # noqa: F401 - pyarrow imports it
        return read_index(self._folder, closed=self.is_closed).to_pandas()

    def verify(self) -> list[Damage]:
        """Read all files and say which are not as they were written; none where all is well."""
        return verify(self._folder)

    def _position(self, utterance_id: str) -> int:
        if not isinstance(utterance_id, str):
            raise UnknownUtteranceError(
                f"utterances are asked for by their ids, which are text, but got {utterance_id!r}; "
                "`store.at(index)` goes by the place among the sorted ids"
            )
        position = self._ids.find(utterance_id)
        if position is None:
            near = self._ids.near(utterance_id)
            hint = f"; close matches: {', '.join(near)}" if near else ""
            raise UnknownUtteranceError(
                f"{self.location} holds {len(self)} utterances, but not {utterance_id!r}{hint}"
            )
        return position

    def _layer_number(self, layer: str | None) -> int:
        if layer is None and len(self._layers) == 1:
            return 0
        if layer not in self._layers:
            raise LayerError(f"layer must be one of {', '.join(self._layers)}, but is {layer}")
        return self._layers.index(layer)

    def _array(self, position: int, number: int) -> Tensor:
        rows, row = self._rows, position * len(self._layers) + number
        shape = int(rows.frames[row]), self.meta.layers[number].dim
        shard = rows.shards[rows.shard_numbers[row]]
        return self._maps.array(shard, int(rows.offsets[row]), shape, self.meta.dtype)


class SortedIds:
    """A great many ids in sorted order, looked up by binary search without an object for each."""

    def __init__(self, ids: pyarrow.ChunkedArray) -> None:
        import pyarrow as pa

        # Offsets of 64 bits, for the ids together may exceed 2 GiB.
        large = ids.cast(pa.large_string())
        self._ids = pa.concat_arrays([pa.array([], pa.large_string()), *large.chunks])

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be from 0 to {len(self) - 1}, but is {index}")
        return str(self._ids[index].as_py())

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def find(self, utterance_id: str) -> int | None:
        """Position of an id; None where the id is not there."""
        index = self._place(utterance_id)
        return index if index < len(self) and self[index] == utterance_id else None

    def near(self, utterance_id: str) -> list[str]:
        """A few ids most like `utterance_id`, of those that sort near it."""
        index = self._place(utterance_id)
        around = range(max(index - NUM_NEIGHBOURS, 0), min(index + NUM_NEIGHBOURS, len(self)))
        return difflib.get_close_matches(utterance_id, [self[i] for i in around], n=3)

    def _place(self, utterance_id: str) -> int:
        ids = self._ids
        # Arrow sorts by UTF-8, which keeps the order of code points, as Python does.
        return bisect.bisect_left(range(len(self)), utterance_id, key=lambda i: ids[i].as_py())


class _Rows(NamedTuple):
    """Locations of arrays: a row per id and layer, in the order of both."""

    shards: list[str]
    shard_numbers: NDArray[np.int32]
    offsets: NDArray[np.int64]
    frames: NDArray[np.int64]
    seconds: NDArray[np.float64]


def _read_rows(folder: Folder, meta: StoreMeta) -> tuple[SortedIds, _Rows]:
    columns = ("id", "layer", "shard", "offset", "frames", "seconds")  # the rest stays on disk
    table = read_index(folder, closed=meta.closed, columns=columns)
    num_layers = len(meta.layers)
    _refuse_other_layers(folder, meta, table)
    encoded = table["shard"].dictionary_encode().unify_dictionaries().combine_chunks()
    rows = _Rows(
        shards=encoded.dictionary.to_pylist(),
        shard_numbers=encoded.indices.to_numpy(),
        offsets=table["offset"].to_numpy(),
        frames=table["frames"].to_numpy(),
        seconds=table["seconds"].to_numpy(),
    )
    return SortedIds(table["id"].take(np.arange(0, table.num_rows, num_layers))), rows


def _refuse_other_layers(folder: Folder, meta: StoreMeta, table: pyarrow.Table) -> None:
    """An utterance's rows are its layers in the order of meta.json; positions rely on it."""
    import pyarrow.compute as pc

    num_layers = len(meta.layers)
    is_regular = table.num_rows % num_layers == 0
    for number, layer in enumerate(meta.layers):
        names = table["layer"].take(np.arange(number, table.num_rows, num_layers))
        is_regular = is_regular and pc.all(pc.equal(names, layer.name), min_count=0).as_py()
    if not is_regular:
        raise StoreError(
            f"the index of {folder.location} does not have the layers of meta.json for every "
            "utterance; run the extraction again"
        )
