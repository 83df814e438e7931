"""How far streams have been read into a store: `streams.json`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from auricle.errors import StoreError
from auricle.extraction.store.folder import Folder
from auricle.extraction.store.layout import STREAMS


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far one split of a data set has been read.

    Attributes:
        source: The data set.
        split: Name of the split.
        num_rows: Rows from its beginning that are done: in the store, or failures.
        end_row: The row that the group ends before which was begun behind them.
    """

    source: str
    split: str
    num_rows: int = 0
    end_row: int = 0


class Positions:
    """The positions of all streams that have been read into a store."""

    def __init__(self, folder: Folder) -> None:
        """Read them.

        Raises:
            StoreError: The file is damaged.
        """
        self._folder = folder
        try:
            with folder.open(STREAMS) as file:
                found = msgspec.json.decode(file.read(), type=list[Position])
        except FileNotFoundError:
            found = []
        except msgspec.DecodeError as error:
            raise StoreError(
                f"{folder.where(STREAMS)} cannot be read: {error}; remove it, and streams are "
                "read again from their beginnings, past what the store holds"
            ) from error
        self._positions = {(one.source, one.split): one for one in found}

    def find(self, source: str, split: str) -> Position:
        """Where a stream stands; at its beginning if it has never been read."""
        return self._positions.get((source, split), Position(source=source, split=split))

    def note(self, position: Position) -> None:
        """Write down where a stream stands.

        Raises:
            OutputError: The file cannot be written.
        """
        self._positions[position.source, position.split] = position
        text = _encoded(self._positions.values())

        def write(temporary: Path) -> None:
            temporary.write_bytes(text)

        self._folder.write_whole(STREAMS, write)


def _encoded(positions: Iterable[Position]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(list(positions)), indent=2) + b"\n"
