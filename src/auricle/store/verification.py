"""Comparison of a store's files with the digests of when they were written."""

from __future__ import annotations

from collections.abc import Mapping

from auricle.errors import OutputError, StoreError
from auricle.store.folder import FileDigest, Folder
from auricle.store.index import (
    CHANGED_REMEDY,
    INDEX_REMEDY,
    PART_REMEDY,
    PLAN_REMEDY,
    Damage,
    index_batches,
    meta_of_parts,
    part_keys,
    read_checked,
    read_parts,
    shard_sizes,
    size_damage,
    unreadable,
)
from auricle.store.layout import (
    INDEX,
    META,
    META_REMEDY,
    PARTS,
    PLANS,
    read_meta,
    refuse_difference,
)


def verify(folder: Folder) -> list[Damage]:
    """Read all of a store and say what is not as it was written; nothing where all is well.

    Every file of a shard is compared with the size and the sha256 in its part, meta.json with what
    the parts remember of it, plans and index with their checksums, and a closed store's index with
    the number of rows in all parts.

    Raises:
        StoreError: There is no store.
    """
    closed, damages = _meta_damage(folder)
    sizes = shard_sizes(folder)
    num_rows = 0
    keys = part_keys(folder)
    for key, part in zip(keys, read_parts(folder, keys), strict=True):
        if isinstance(part, StoreError):
            damages.append(unreadable(key.part, part, PART_REMEDY))
            continue
        num_rows += part.rows.num_rows
        damage = size_damage(part.files, sizes)
        damages += [damage] if damage else _changed(folder, part.files)
    damages += _plan_damages(folder)
    if closed:
        damages += _index_damage(folder, num_rows if not damages else None)
    return damages


def _meta_damage(folder: Folder) -> tuple[bool, list[Damage]]:
    """Read from meta.json if the store is closed; find the damage of that file."""
    remembered = meta_of_parts(folder)
    try:
        meta = read_meta(folder)
    except StoreError as error:
        return False, [unreadable(META, error, META_REMEDY)]
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
            damages.append(unreadable(name, error, PLAN_REMEDY))
    return damages


def _index_damage(folder: Folder, num_rows: int | None) -> list[Damage]:
    """Find the damage of the index, of `num_rows` rows where their number is known."""
    try:
        found = sum(batch.num_rows for batch in index_batches(folder))
    except StoreError as error:
        return [unreadable(INDEX, error, INDEX_REMEDY)]
    if num_rows is not None and found != num_rows:
        reason = f"has {found} rows, but {PARTS}/ has {num_rows}"
        return [Damage(INDEX, reason, INDEX_REMEDY)]
    return []
