"""Formats of shards by name, read back by the libraries that know it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from auricle.errors import OutputError

if TYPE_CHECKING:
    from auricle.store.layout import StoreMeta
    from auricle.store.shards import ShardFormat

_CLASSES = {
    "store": "auricle.store.shards:StoreFormat",
    "npy": "auricle.extraction.writers.arrays:NpyFormat",
    "kaldi": "auricle.extraction.writers.kaldi:KaldiFormat",
    "webdataset": "auricle.extraction.writers.arrays:WebDatasetFormat",
    "hdf5": "auricle.extraction.writers.arrays:Hdf5Format",
    "arrow": "auricle.extraction.writers.arrays:ArrowFormat",
    "text": "auricle.extraction.writers.arrays:TextFormat",
}
"""Name of a format -> module and class, imported on first use."""

FORMAT_NAMES = tuple(_CLASSES)


def open_format(meta: StoreMeta) -> ShardFormat:
    """The format that `meta` names, ready to write what `meta` says.

    Raises:
        OutputError: There is no such format, or it has no such type of values.
        MissingExtraError: A package that it needs is not installed.
    """
    if meta.format not in _CLASSES:
        raise OutputError(f"there is no format {meta.format!r}; choose one of {list(_CLASSES)}")
    if meta.compression is not None and meta.format != "kaldi":
        raise OutputError(
            f"compress={meta.compression!r} (--compress) is for the format kaldi, but the format "
            f"is {meta.format}; leave it out"
        )
    module, _, name = _CLASSES[meta.format].partition(":")
    found: type[ShardFormat] = getattr(import_module(module), name)
    return found(meta)
