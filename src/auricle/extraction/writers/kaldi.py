"""Kaldi's archives of matrices and vectors, compressed or not, with the lists that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from auricle.errors import OutputError
from auricle.optional import optional
from auricle.store.folder import Folder
from auricle.store.layout import ShardKey, StoreMeta, component
from auricle.store.shards import (
    KALDI_METHODS,
    IndexBatches,
    Item,
    Placement,
    ShardFormat,
    WrittenShard,
    values,
)

MARK_BYTES = 2
"""Binary mark, which a compressed matrix's token follows."""

MATRIX_HEADER_BYTES = 15
"""Binary mark, "FM ", and the two sizes, each a byte and an int32 (kaldi: matrix/kaldi-matrix.cc,
`Matrix::Write`)."""

VECTOR_HEADER_BYTES = 10
"""Binary mark, "FV ", and one size (kaldi: matrix/kaldi-vector.cc, `Vector::Write`)."""


class KaldiFormat(ShardFormat):
    """An ark of float32 matrices per shard and layer, of vectors where frames are pooled.

    feats.scp lists all of them once the store is closed, beside utt2dur and, where rows are frames,
    utt2num_frames and frame_shift. Where several layers are kept, files of a layer have its name:
    feats.LAYER.scp, utt2num_frames.LAYER, frame_shift.LAYER.
    """

    name = "kaldi"
    suffix = ".ark"
    dtypes = ("float32",)
    hint = "; of integers Kaldi reads the lines of format text (copy-int-vector ark,t:units.txt)"
    package = "kaldiio"

    def __init__(self, meta: StoreMeta) -> None:
        super().__init__(meta)
        self._is_pooled = meta.selection.pool is not None
        if meta.compression is not None and self._is_pooled:
            raise OutputError(
                "Kaldi compresses matrices, but pooled utterances are vectors; leave compress= "
                "(--compress) or pool= (--pool) out"
            )

    def check_id(self, utterance_id: str) -> None:
        super().check_id(utterance_id)
        if utterance_id.split() != [utterance_id]:
            raise OutputError(
                f"Kaldi's ids hold no white space, but {utterance_id!r} does; rename it"
            )

    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        files, offsets = {}, {}
        for layer in self.layers:
            name = key.file(self._middle(layer) + self.suffix)
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

    def finish(self, folder: Folder, batches: IndexBatches, order: Sequence[str] = ()) -> None:
        def rows(layer: str, column: str) -> Iterator[tuple[str, str, Any]]:
            for batch in batches():
                columns = (batch[name].to_pylist() for name in ("id", "layer", "shard", column))
                for utterance_id, its_layer, shard, value in zip(*columns, strict=True):
                    if its_layer == layer and value is not None:
                        yield utterance_id, shard, value

        def place(shard: str, offset: int) -> str:
            return f"{folder.where(shard)}:{offset - self._header_bytes}"

        for layer in self.meta.layers:
            middle = self._middle(layer.name)
            scp = (f"{one} {place(*at)}" for one, *at in rows(layer.name, "offset"))
            folder.write_whole(f"feats{middle}.scp", _writing(scp))
            if layer.hop_samples is not None:
                counts = (f"{one} {value}" for one, _, value in rows(layer.name, "frames"))
                folder.write_whole(f"utt2num_frames{middle}", _writing(counts))
                shift = f"{layer.hop_samples / self.meta.sample_rate:g}"
                folder.write_whole(f"frame_shift{middle}", _writing([shift]))
        lengths = (f"{one} {round(s, 6)}" for one, _, s in rows(self.layers[0], "seconds"))
        folder.write_whole("utt2dur", _writing(lengths))

    @property
    def _header_bytes(self) -> int:
        if self.meta.compression is not None:
            return MARK_BYTES
        return VECTOR_HEADER_BYTES if self._is_pooled else MATRIX_HEADER_BYTES

    def _middle(self, layer: str) -> str:
        return "" if len(self.layers) == 1 else f".{component(layer)}"

    def _write_ark(self, path: Path, layer: str, items: Sequence[Item]) -> list[int]:
        """Write an ark and say where the values of each utterance begin, in bytes."""
        with optional("kaldiio", "the kaldi format"):
            import kaldiio
        compression = self.meta.compression
        method = None if compression is None else KALDI_METHODS[compression]
        offsets = []
        with path.open("wb") as file:
            for utterance, arrays in items:
                x = values(arrays[layer])
                offsets.append(file.tell() + len(utterance.id.encode()) + 1 + self._header_bytes)
                row = {utterance.id: x[0] if self._is_pooled else x}
                kaldiio.save_ark(file, row, compression_method=method)
        return offsets


def _writing(lines: Iterator[str] | Sequence[str]) -> Callable[[Path], None]:
    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)

    return write
