"""Codes as lines of text, as language models of speech read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import OutputError
from auricle.store.layout import component
from auricle.store.shards import IndexBatches, ShardMaps, StoreFormat

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.store.folder import Folder


class TextFormat(StoreFormat):
    """The library's own shards, and all of their codes as text once the store is closed.

    LAYER.txt has a line for each utterance, `id 12 12 7`, in the order of the corpus.
    """

    name = "text"
    dtypes = ("int16", "int32", "int64")

    def check_id(self, utterance_id: str) -> None:
        super().check_id(utterance_id)
        if utterance_id.split() != [utterance_id]:
            raise OutputError(
                f"an id that begins a line of text holds no white space, but {utterance_id!r} "
                "does; rename it"
            )

    def finish(self, folder: Folder, batches: IndexBatches, order: Sequence[str] = ()) -> None:
        for layer in self.layers:

            def write(temporary: Path, layer: str = layer) -> None:
                with temporary.open("w", encoding="utf-8", newline="\n") as file:
                    for utterance_id, x in self._arrays(layer, folder, batches, order):
                        file.write(f"{utterance_id} {text_of(x)}".rstrip() + "\n")

            folder.write_whole(f"{component(layer)}.txt", write)

    def _arrays(
        self, layer: str, folder: Folder, batches: IndexBatches, order: Sequence[str]
    ) -> Iterator[tuple[str, Tensor]]:
        """Arrays of a layer: those of `order`, then the others by their ids."""
        maps = ShardMaps(folder)
        places: dict[str, tuple[str, int, int, int]] = {}
        for batch in batches():
            columns = ("id", "layer", "shard", "offset", "frames", "dim")
            for row in zip(*(batch[name].to_pylist() for name in columns), strict=True):
                if row[1] == layer:
                    places[row[0]] = row[2:]
        for utterance_id in dict.fromkeys((*order, *places)):
            if utterance_id in places:  # and has not failed
                shard, offset, frames, dim = places[utterance_id]
                yield (
                    utterance_id,
                    maps.array(shard, offset, (frames, dim), self.meta.dtype),
                )


def text_of(codes: Tensor) -> str:
    """Codes (T, K) as one word a frame, those of a frame with hyphens: `12 7` or `12-3 7-0`."""
    return " ".join("-".join(map(str, frame)) for frame in codes.tolist())
