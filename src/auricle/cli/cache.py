"""`auricle cache`: print, list and empty the cache of weights."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from auricle.errors import AuricleError

if TYPE_CHECKING:
    from auricle.hub.contents import Item

SUMMARY = "show or empty the cache"
TEXT = """\
Show and remove downloaded weights, which are kept in AURICLE_CACHE or the user's cache folder.

path prints the folder, list its contents; a digest is listed if its original was removed.
remove does not ask for confirmation, and prints the bytes freed:
  remove NAME         all files of one model, and its pinned digest
  remove --all        all files of all models
  --originals         only downloads: conversions stay and load, and so do the digests
  --converted         only conversions: the next load converts again
"""
EXAMPLES = """\
examples:
  auricle cache path
  auricle cache list
  auricle cache remove tera
  auricle cache remove --originals
"""

HEADER = ("name", "kind", "bytes", "modified")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their arguments."""
    parser.set_defaults(parser=parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("path", help="print the folder", allow_abbrev=False)
    actions.add_parser("list", help="list its contents", allow_abbrev=False)
    remove = actions.add_parser("remove", help="remove some or all of it", allow_abbrev=False)
    remove.add_argument("name", metavar="NAME", nargs="?", help="a model, or a URL")
    remove.add_argument("--all", action="store_true", help="all models")
    kind = remove.add_mutually_exclusive_group()
    kind.add_argument("--originals", action="store_true", help="only downloads")
    kind.add_argument("--converted", action="store_true", help="only conversions")


def run(arguments: argparse.Namespace) -> int:
    """Print the folder or its contents, or remove from it.

    Raises:
        UnknownModelError: There is no such model.
        OutputError: Something cannot be removed.
        AuricleError: Nothing, or too much, is selected for removal.
    """
    if arguments.action is None:
        arguments.parser.exit(2, arguments.parser.format_help())
    if arguments.action == "path":
        from auricle.hub.cache import cache_folder

        print(cache_folder())
    elif arguments.action == "list":
        _list()
    else:
        _remove(arguments)
    return 0


def _list() -> None:
    from auricle.hub.cache import cache_folder
    from auricle.hub.contents import items

    found = items()
    originals = {item.path for item in found if item.kind == "original"}
    # A digest is listed only without its original, when it still pins later downloads.
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
    from auricle.hub.contents import items, items_of, remove

    only = {"original"} if arguments.originals else {"converted"} if arguments.converted else None
    if not (arguments.name or arguments.all or only):
        raise AuricleError(
            "nothing selected to remove: pass NAME, --all, --originals or --converted"
        )
    if arguments.name and arguments.all:
        raise AuricleError("remove takes NAME or --all, not both")
    found = items() if arguments.name is None else items_of(arguments.name)
    chosen = [item for item in found if only is None or item.kind in only]
    num_bytes = 0
    for item in chosen:
        num_bytes += remove(item)
        print(f"removed {item.name}, {item.kind}: {item.num_bytes:,} bytes, {item.path}")
    print(f"freed {num_bytes:,} bytes" if chosen else "nothing to remove")
