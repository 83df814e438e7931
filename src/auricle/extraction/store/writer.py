"""Writing a store: shards that count from one moment to the next, then the index over all."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from auricle.corpus.utterance import Fingerprint, Utterance
from auricle.errors import OutputError
from auricle.extraction.formats.base import path_text
from auricle.extraction.formats.registry import open_format
from auricle.extraction.store.checking import completed_shards, meta_of_parts
from auricle.extraction.store.folder import Folder, open_folder
from auricle.extraction.store.index import IndexRow, index_batches, read_part, write_part
from auricle.extraction.store.layout import (
    ERRORS,
    META,
    ShardKey,
    StoreMeta,
    read_meta,
    refuse_difference,
    write_meta,
)
from auricle.extraction.store.mapping import ShardMaps
from auricle.extraction.store.merging import merge_parts
from auricle.extraction.store.partial import Segments

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.extraction.formats.base import Item, WrittenShard

logger = logging.getLogger(__name__)


class StoreWriter:
    """Writes shards into a store that `begin` has prepared.

    It can be pickled: any number of processes write to one store, each shard by one of them.

    Raises:
        OutputError: The format has no such type of values.
        MissingExtraError: A package that the format needs is not installed.
    """

    def __init__(self, folder: Folder, meta: StoreMeta) -> None:
        self.folder = folder
        self.meta = meta
        self.format = open_format(meta)

    @classmethod
    def begin(cls, location: str | Path, meta: StoreMeta, *, writes: bool = True) -> StoreWriter:
        """Prepare a new store, or go on with one, which stays as it is until `reopen`.

        A meta.json that is not there is written anew if parts of the index say what it said.
        Without `writes` the same is checked, and nothing is written.

        Raises:
            OutputError: The folder cannot be written, holds something else, or holds another
                extraction; the message names the field that differs.
            StoreError: Its meta.json is damaged.
            MissingExtraError: A package that the format or the place needs is not installed.
        """
        folder = open_folder(location)
        writer = cls(folder, meta)
        found = read_meta(folder)
        if found is not None:
            refuse_difference(folder, found, meta)
            return writer
        if (described := meta_of_parts(folder)) is not None:
            refuse_difference(folder, described, meta)
            if writes:
                write_meta(folder, described)
            return writer
        # What a run leaves of which everything failed claims nothing.
        if strangers := [name for name in folder.sizes() if name != ERRORS]:
            raise OutputError(
                f"{folder.location} is not empty and no store: it holds {strangers[0]}, and no "
                "meta.json; take another folder"
            )
        if writes:
            write_meta(folder, msgspec.structs.replace(meta, closed=False))
        return writer

    def completed(self) -> frozenset[ShardKey]:
        """Shards that are done; all others are to be written."""
        return completed_shards(self.folder)

    def reopen(self) -> None:
        """Make ready for more shards: to be called before the first is written.

        From now on the index does not hold all. What killed processes left is removed; so no
        other run may be writing to the store.
        """
        self.folder.remove_debris()
        self._set_closed(False)

    def write(
        self, key: ShardKey, items: Sequence[Item], *, library_version: str | None = None
    ) -> None:
        """Write a shard and then its part: when this returns it counts, before it does not.

        Args:
            key: The shard.
            items: What it holds; empty where all its utterances have failed.
            library_version: Version that encoded them; None for this one.

        Raises:
            OutputError: It cannot be written, or an array is not what meta.json says.
        """
        seen: set[str] = set()
        for utterance, arrays in items:
            if utterance.id in seen:
                raise OutputError(f"the id {utterance.id!r} comes twice in a shard; rename one")
            seen.add(utterance.id)
            self._check(utterance, arrays)
        # A part of a shard that was cut would vouch for what is written now.
        self.folder.remove(key.part)
        written = self.format.write(self.folder, key, items) if items else None
        write_part(
            self.folder,
            key,
            self._rows(items, written) if written else [],
            written.files if written else {},
            library_version=library_version or self.meta.library_version,
            meta=self.meta,
        )

    def discard(self, key: ShardKey, ids: Collection[str]) -> bool:
        """Remove utterances from a shard that is done, by writing it again without them.

        Returns:
            Whether it is still done. It is not where its files are not as they were written: then
            nothing of it is taken over, and all of it is to be encoded again.

        Raises:
            OutputError: It cannot be written.
        """
        part = read_part(self.folder, key)
        if any(self.folder.digest(name) != digest for name, digest in part.files.items()):
            logger.warning("shard %s has changed; all of it is encoded again", key.stem)
            self.folder.remove(key.part)
            return False
        maps = ShardMaps(self.folder)
        items: dict[str, tuple[Utterance, dict[str, Tensor]]] = {}
        for row in part.rows.to_pylist():
            if row["id"] not in ids:
                _, arrays = items.setdefault(row["id"], (_utterance(row), {}))
                shape = row["frames"], row["dim"]
                arrays[row["layer"]] = maps.array(row["shard"], row["offset"], shape, row["dtype"])
        self.folder.remove(key.part)
        if not items:
            for name in part.files:
                self.folder.remove(name)
        self.write(key, list(items.values()), library_version=part.library_version)
        for name in part.files.keys() - read_part(self.folder, key).files.keys():
            self.folder.remove(name)
        return True

    def abandon(self) -> None:
        """Leave the folder of a store that holds nothing to whatever comes next.

        What is said of failures stays.
        """
        for name in self.folder.sizes():
            if name not in (META, ERRORS):
                self.folder.remove(name)
        self.folder.remove_debris()
        self.folder.remove(META)  # last: a folder without it is no store

    def close(self) -> int:
        """Merge all parts into index.parquet and say how many rows it has.

        As for `reopen`, nobody may be writing to the store.

        Raises:
            OutputError: The index cannot be written.
            StoreError: A part is damaged.
        """
        Segments(self.folder, self.meta).remove()
        self.folder.remove_debris()
        num_rows = merge_parts(self.folder)
        self.format.finish(self.folder, lambda: index_batches(self.folder))
        self._set_closed(True)
        return num_rows

    def _set_closed(self, closed: bool) -> None:
        # The file's own, not this run's: it says which version began the store.
        found = read_meta(self.folder) or self.meta
        if found.closed != closed:
            write_meta(self.folder, msgspec.structs.replace(found, closed=closed))

    def _check(self, utterance: Utterance, arrays: Mapping[str, Tensor]) -> None:
        expected = {layer.name: layer.dim for layer in self.meta.layers}
        if arrays.keys() != expected.keys():
            raise OutputError(
                f"{utterance.id} has the layers {', '.join(arrays)}, but the store keeps "
                f"{', '.join(expected)}"
            )
        for layer, x in arrays.items():
            dtype = str(x.dtype).removeprefix("torch.")
            if x.ndim != 2 or x.shape[1] != expected[layer] or dtype != self.meta.dtype:
                raise OutputError(
                    f"{layer} of {utterance.id} is {dtype} {tuple(x.shape)}, but the store keeps "
                    f"{self.meta.dtype} (frames, {expected[layer]})"
                )

    def _rows(self, items: Sequence[Item], written: WrittenShard) -> list[IndexRow]:
        by_id = {utterance.id: (utterance, arrays) for utterance, arrays in items}
        rows = []
        for place in written.placements:
            utterance, arrays = by_id[place.id]
            frames, dim = arrays[place.layer].shape
            row = IndexRow(
                id=place.id,
                layer=place.layer,
                shard=place.file,
                offset=place.offset,
                frames=frames,
                dim=dim,
                dtype=self.meta.dtype,
                source=path_text(utterance.origin),
                start=utterance.start,
                seconds=utterance.seconds,
                model_sha256=self.meta.model_sha256,
                channel=utterance.channel,
                **_record(utterance.fingerprint),
            )
            rows.append(row)
        return rows


def _utterance(row: Mapping[str, Any]) -> Utterance:
    """The utterance that a row of the index is of, as far as it says."""
    fingerprint = None
    if row["source_sha256"] is not None:
        fingerprint = Fingerprint(
            num_bytes=row["source_bytes"],
            mtime_ns=row["source_mtime_ns"],
            sha256=row["source_sha256"],
            part_seconds=row["part_seconds"],
        )
    return Utterance(
        id=row["id"],
        source=row["source"],
        start=row["start"],
        seconds=row["seconds"],
        channel=row["channel"],
        fingerprint=fingerprint,
    )


def _record(fingerprint: Fingerprint | None) -> dict[str, Any]:
    """The columns of the index that say what was encoded."""
    if fingerprint is None:
        return {}
    return {
        "part_seconds": fingerprint.part_seconds,
        "source_bytes": fingerprint.num_bytes,
        "source_mtime_ns": fingerprint.mtime_ns,
        "source_sha256": fingerprint.sha256,
    }
