"""`auricle cache`: where downloaded weights are, what there is, and its removal."""

from __future__ import annotations

import argparse
import time

from auricle.errors import AuricleError
from auricle.hub.cache import cache_folder
from auricle.hub.contents import Item, items, items_of, remove

HEADER = ("name", "what", "bytes", "written")


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments ask for.

    Raises:
        UnknownModelError: There is no such model.
        OutputError: Something cannot be removed.
        AuricleError: The arguments do not say what to remove.
    """
    if arguments.action == "path":
        print(cache_folder())
    elif arguments.action == "list":
        _list()
    else:
        _remove(arguments)
    return 0


def _list() -> None:
    found = items()
    originals = {item.path for item in found if item.kind == "original"}
    # A digest goes without saying beside its original; alone it still pins what is downloaded.
    shown = [i for i in found if i.kind != "digest" or i.path.with_suffix("") not in originals]
    rows = [HEADER, *map(_row, shown)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, kind, size, written in rows:
        print(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {size:>{widths[2]}}  {written}")
    print(f"{sum(item.num_bytes for item in found):,} bytes in {cache_folder()}")


def _row(item: Item) -> tuple[str, ...]:
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.modified))
    return item.name, item.kind, f"{item.num_bytes:,}", date


def _remove(arguments: argparse.Namespace) -> None:
    only = {"original"} if arguments.originals else {"converted"} if arguments.converted else None
    if not (arguments.name or arguments.all or only):
        raise AuricleError("say what to remove: NAME, --all, --originals or --converted")
    if arguments.name and arguments.all:
        raise AuricleError("remove takes NAME or --all, not both")
    found = items() if arguments.name is None else items_of(arguments.name)
    chosen = [item for item in found if only is None or item.kind in only]
    num_bytes = 0
    for item in chosen:
        num_bytes += remove(item)
        print(f"removed {item.name}, {item.kind}: {item.num_bytes:,} bytes, {item.path}")
    print(f"freed {num_bytes:,} bytes" if chosen else "nothing to remove")
