"""Which shards of a store count, and whether every byte is still the one that was written."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

from auricle.errors import OutputError, StoreError
from auricle.extraction.store.folder import FileDigest, Folder
from auricle.extraction.store.index import (
    INDEX_REMEDY,
    PART_REMEDY,
    PLAN_REMEDY,
    index_batches,
    part_keys,
    read_checked,
    read_parts,
)
from auricle.extraction.store.layout import (
    DATA,
    INDEX,
    META,
    META_REMEDY,
    PARTS,
    PLANS,
    SHARDS,
    ShardKey,
    StoreMeta,
    read_meta,
    refuse_difference,
)

logger = logging.getLogger(__name__)


SHARD_REMEDY = "run the same extraction again, which makes it anew"
CHANGED_REMEDY = f"remove it and {SHARD_REMEDY}"
"""Of a file whose size is as it was: runs compare no more than that."""


@dataclasses.dataclass(frozen=True)
class Damage:
    """A file of a store that is not as it was written, in what way, and what mends it."""

    file: str
    reason: str
    remedy: str


def completed_shards(folder: Folder) -> frozenset[ShardKey]:
    """Shards that are done: their part is whole, and their files have the sizes that it says.

    All others are to be made (anew). Contents are not read: `verify` does that.
    """
    sizes = _sizes(folder)
    done = set()
    keys = part_keys(folder)
    for key, part in zip(keys, read_parts(folder, keys), strict=True):
        if isinstance(part, StoreError):
            damage: Damage | None = _unreadable(key.part, part, PART_REMEDY)
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
            return Damage(name, "is not there", SHARD_REMEDY)
        if found != digest.size:
            return Damage(name, f"has {found} bytes, expected {digest.size}", SHARD_REMEDY)
    return None


def meta_of_parts(folder: Folder) -> StoreMeta | None:
    """What meta.json said, as the first part of the index that can be read remembers it."""
    for part in read_parts(folder, part_keys(folder)):
        if not isinstance(part, StoreError) and part.meta is not None:
            return part.meta
    return None


def verify(folder: Folder) -> list[Damage]:
    """Read all of a store and say what is not as it was written; nothing where all is well.

    Every file of a shard is compared with the size and the sha256 in its part, meta.json with what
    the parts remember of it, plans and index with their checksums, and a closed store's index with
    the number of rows in all parts.

    Raises:
        StoreError: There is no store.
    """
    closed, damages = _meta_damage(folder)
    sizes = _sizes(folder)
    num_rows = 0
    keys = part_keys(folder)
    for key, part in zip(keys, read_parts(folder, keys), strict=True):
        if isinstance(part, StoreError):
            damages.append(_unreadable(key.part, part, PART_REMEDY))
            continue
        num_rows += part.rows.num_rows
        damage = size_damage(part.files, sizes)
        damages += [damage] if damage else _changed(folder, part.files)
    damages += _plan_damages(folder)
    if closed:
        damages += _index_damage(folder, num_rows if not damages else None)
    return damages


def _unreadable(name: str, error: StoreError, remedy: str) -> Damage:
    if isinstance(error.__cause__, FileNotFoundError):
        return Damage(name, "is not there", remedy)
    return Damage(name, str(error).removesuffix(f"; {remedy}"), remedy)


def _sizes(folder: Folder) -> dict[str, int]:
    return {**folder.sizes(SHARDS), **folder.sizes(DATA)}


def _meta_damage(folder: Folder) -> tuple[bool, list[Damage]]:
    """Whether meta.json says that the store is closed, and what is wrong with it."""
    remembered = meta_of_parts(folder)
    try:
        meta = read_meta(folder)
    except StoreError as error:
        return False, [_unreadable(META, error, META_REMEDY)]
    if meta is None and remembered is None:
        raise StoreError(f"{folder.location} is not a store: it has no meta.json")
    if meta is None:
        return False, [Damage(META, "is not there", META_REMEDY)]
    if remembered is not None:
        try:
            refuse_difference(folder, remembered, meta)
        except OutputError:
            return False, [Damage(META, f"does not say what {PARTS}/ says", META_REMEDY)]
    return meta.closed, []


def _changed(folder: Folder, files: Mapping[str, FileDigest]) -> list[Damage]:
    return [
        Damage(name, f"has sha256 {found.sha256}, expected {digest.sha256}", CHANGED_REMEDY)
        for name, digest in files.items()
        if (found := folder.digest(name)) != digest
    ]


def _plan_damages(folder: Folder) -> list[Damage]:
    damages = []
    for name in folder.sizes(PLANS):
        try:
            read_checked(folder, name, PLAN_REMEDY)
        except StoreError as error:
            damages.append(_unreadable(name, error, PLAN_REMEDY))
    return damages


def _index_damage(folder: Folder, num_rows: int | None) -> list[Damage]:
    """What is wrong with the index; `num_rows` of it where it is known how many there are."""
    try:
        found = sum(batch.num_rows for batch in index_batches(folder))
    except StoreError as error:
        return [_unreadable(INDEX, error, INDEX_REMEDY)]
    if num_rows is not None and found != num_rows:
        reason = f"has {found} rows, but {PARTS}/ has {num_rows}"
        return [Damage(INDEX, reason, INDEX_REMEDY)]
    return []
