"""A great many ids, looked up without an object for each."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow

NUM_NEIGHBOURS = 500
"""Ids on either side of a missing one among which similar ones are looked for."""


class SortedIds:
    """Ids in sorted order: their UTF-8 one after the other, and where each ends.

    A lookup is a binary search of about 10 microseconds among a million.
    """

    def __init__(self, ids: pyarrow.ChunkedArray) -> None:
        import pyarrow as pa

        empty = pa.array([], pa.large_string())
        array = pa.concat_arrays([empty, *ids.cast(pa.large_string()).chunks])
        ends, data = array.buffers()[1:]
        # One end more than there are ids: where the first begins.
        self._ends = np.zeros(1, np.int64)
        self._data: NDArray[np.uint8] = np.zeros(0, np.uint8)
        if len(array):
            assert array.offset == 0  # what has been put together is new
            self._ends = np.frombuffer(ends, np.int64, len(array) + 1)
            self._data = np.frombuffer(data, np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be from 0 to {len(self) - 1}, but is {index}")
        return self._bytes(index).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def find(self, utterance_id: str) -> int | None:
        """Position of an id; None where it is not there."""
        try:
            wanted = utterance_id.encode()
        except UnicodeEncodeError:
            return None
        index = self._position(wanted)
        return index if index < len(self) and self._bytes(index) == wanted else None

    def near(self, utterance_id: str) -> list[str]:
        """A few ids most like `id`, of those that sort near it."""
        index = self._position(utterance_id.encode(errors="replace"))
        around = range(max(index - NUM_NEIGHBOURS, 0), min(index + NUM_NEIGHBOURS, len(self)))
        return difflib.get_close_matches(utterance_id, [self[i] for i in around], n=3)

    def _position(self, wanted: bytes) -> int:
        return bisect.bisect_left(range(len(self)), wanted, key=self._bytes)

    def _bytes(self, index: int) -> bytes:
        return self._data[self._ends[index] : self._ends[index + 1]].tobytes()
