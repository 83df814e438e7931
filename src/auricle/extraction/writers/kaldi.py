"""Kaldi archives: ark files and the scp that says where in them each utterance lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import OutputError
from auricle.optional import optional
from auricle.store.folder import Folder
from auricle.store.layout import ShardKey, component
from auricle.store.shards import (
    IndexBatches,
    Placement,
    ShardFormat,
    WrittenShard,
    values,
)

if TYPE_CHECKING:
    from auricle.store.shards import Item

MATRIX_HEADER_BYTES = 15
"""Binary mark, "FM ", and the two sizes, each a byte and an int32 (kaldi: matrix/kaldi-matrix.cc,
`Matrix::Write`)."""

VECTOR_HEADER_BYTES = 10
"""Binary mark, "FV ", and one size (kaldi: matrix/kaldi-vector.cc, `Vector::Write`)."""


class KaldiFormat(ShardFormat):
    """An ark of float32 matrices per shard and layer, of vectors where frames are pooled.

    feats.scp lists all of them once the store is closed; feats.LAYER.scp where several layers are
    kept.
    """

    name = "kaldi"
    suffix = ".ark"
    dtypes = ("float32",)
    package = "kaldiio"

    def check_id(self, utterance_id: str) -> None:
        super().check_id(utterance_id)
        if utterance_id.split() != [utterance_id]:
            raise OutputError(
                f"Kaldi's ids hold no white space, but {utterance_id!r} does; rename it"
            )

    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        files, offsets = {}, {}
        for layer in self.layers:
            middle = "" if len(self.layers) == 1 else f".{component(layer)}"
            name = key.file(middle + self.suffix)
            found: list[int] = []

            def write(temporary: Path, layer: str = layer, found: list[int] = found) -> None:
                found += self._write_ark(temporary, layer, items)

            files[name] = folder.write_whole(name, write)
            offsets[layer] = (name, found)
        placements = [
            Placement(utterance.id, layer, offsets[layer][0], offsets[layer][1][index])
            for index, (utterance, _) in enumerate(items)
            for layer in self.layers
        ]
        return WrittenShard(placements, files)

    def finish(self, folder: Folder, batches: IndexBatches) -> None:
        for layer in self.layers:
            middle = "" if len(self.layers) == 1 else f".{component(layer)}"

            def write(temporary: Path, layer: str = layer) -> None:
                self._write_scp(temporary, layer, folder, batches)

            folder.write_whole(f"feats{middle}.scp", write)

    @property
    def _header_bytes(self) -> int:
        return VECTOR_HEADER_BYTES if self.meta.selection.pool else MATRIX_HEADER_BYTES

    def _write_ark(self, path: Path, layer: str, items: Sequence[Item]) -> list[int]:
        """Write an ark and say where the values of each utterance begin, in bytes."""
        with optional("kaldiio", "the kaldi format"):
            import kaldiio
        offsets = []
        with path.open("wb") as file:
            for utterance, arrays in items:
                x = values(arrays[layer])
                offsets.append(file.tell() + len(utterance.id.encode()) + 1 + self._header_bytes)
                kaldiio.save_ark(file, {utterance.id: x[0] if self.meta.selection.pool else x})
        return offsets

    def _write_scp(self, path: Path, layer: str, folder: Folder, batches: IndexBatches) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for batch in batches():
                columns = (batch[name].to_pylist() for name in ("id", "layer", "shard", "offset"))
                for utterance_id, its_layer, shard, offset in zip(*columns, strict=True):
                    if its_layer == layer:
                        start = offset - self._header_bytes
                        file.write(f"{utterance_id} {folder.where(shard)}:{start}\n")
