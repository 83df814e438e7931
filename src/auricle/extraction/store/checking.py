"""Which shards of a store count, and whether every byte is still the one that was written."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

from auricle.extraction.store.errors import StoreError
from auricle.extraction.store.folder import FileDigest, Folder
from auricle.extraction.store.index import index_batches, part_keys, read_parts
from auricle.extraction.store.layout import DATA, PARTS, SHARDS, ShardKey, read_meta

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Damage:
    """A file of a store that is not as it was written, and in what way."""

    file: str
    reason: str


def completed_shards(folder: Folder) -> frozenset[ShardKey]:
    """Shards that are done: their part is whole, and their files have the sizes that it says.

    All others are to be made (anew). Contents are not read: `verify` does that.
    """
    sizes = _sizes(folder)
    done = set()
    keys = part_keys(folder)
    for key, part in zip(keys, read_parts(folder, keys), strict=True):
        if isinstance(part, StoreError):
            damage: Damage | None = Damage(key.part, str(part))
        else:
            damage = size_damage(part.files, sizes)
        if damage is None:
            done.add(key)
        else:
            logger.warning("%s: %s; its shard is made anew", damage.file, damage.reason)
    return frozenset(done)


def size_damage(files: Mapping[str, FileDigest], sizes: Mapping[str, int]) -> Damage | None:
    """What is wrong with the sizes of a shard's files; None where they are as its part says."""
    for name, digest in files.items():
        found = sizes.get(name)
        if found is None:
            return Damage(name, "is not there")
        if found != digest.size:
            return Damage(name, f"has {found} bytes, expected {digest.size}")
    return None


def verify(folder: Folder) -> list[Damage]:
    """Read all of a store and say what is not as it was written; nothing where all is well.

    Every file of a shard is compared with the size and the sha256 in its part, and a closed
    store's index with the number of rows in all parts.

    Raises:
        StoreError: There is no store.
    """
    meta = read_meta(folder)
    if meta is None:
        raise StoreError(f"{folder.location} is not a store: it has no meta.json")
    damages: list[Damage] = []
    sizes = _sizes(folder)
    num_rows = 0
    keys = part_keys(folder)
    for key, part in zip(keys, read_parts(folder, keys), strict=True):
        if isinstance(part, StoreError):
            damages.append(Damage(key.part, str(part)))
            continue
        num_rows += part.rows.num_rows
        damage = size_damage(part.files, sizes)
        damages += [damage] if damage else _changed(folder, part.files)
    if meta.closed and not damages:
        damages += _index_damage(folder, num_rows)
    return damages


def _sizes(folder: Folder) -> dict[str, int]:
    return {**folder.sizes(SHARDS), **folder.sizes(DATA)}


def _changed(folder: Folder, files: Mapping[str, FileDigest]) -> list[Damage]:
    return [
        Damage(name, f"has sha256 {found.sha256}, expected {digest.sha256}")
        for name, digest in files.items()
        if (found := folder.digest(name)) != digest
    ]


def _index_damage(folder: Folder, num_rows: int) -> list[Damage]:
    try:
        found = sum(batch.num_rows for batch in index_batches(folder))
    except StoreError as error:
        return [Damage("index.parquet", str(error))]
    if found != num_rows:
        reason = f"has {found} rows, but {PARTS}/ has {num_rows}"
        return [Damage("index.parquet", reason)]
    return []
