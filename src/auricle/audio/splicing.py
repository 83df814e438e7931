"""Bytes and spans of a file, read as one file: headers are corrected without a copy."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from typing import BinaryIO, TypeAlias, cast

Piece: TypeAlias = "bytes | tuple[int, int]"
"""Bytes themselves, or where a span of the file begins and ends."""

BUFFER_BYTES = 1 << 16


def spliced(stream: BinaryIO, pieces: Sequence[Piece]) -> BinaryIO:
    """Pieces as one seekable file; `stream` stays open when that is closed."""
    return cast(BinaryIO, io.BufferedReader(_Spliced(stream, pieces), BUFFER_BYTES))


class _Spliced(io.RawIOBase):
    """Reads pieces one after the other. A seek to before the start goes to the start, for
    libsndfile follows sizes that files made up."""

    def __init__(self, stream: BinaryIO, pieces: Sequence[Piece]) -> None:
        self._stream = stream
        self._pieces = [piece for piece in pieces if _length(piece)]
        self._starts = [0]
        for piece in self._pieces:
            self._starts.append(self._starts[-1] + _length(piece))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # Buffer is of Python 3.12
        if self._position >= self._starts[-1]:
            return 0
        index = bisect_right(self._starts, self._position) - 1
        piece, skipped = self._pieces[index], self._position - self._starts[index]
        count = min(len(view), _length(piece) - skipped)
        if isinstance(piece, bytes):
            contents = piece[skipped : skipped + count]
        else:
            self._stream.seek(piece[0] + skipped)
            contents = self._stream.read(count)
        view[: len(contents)] = contents
        self._position += len(contents)
        return len(contents)


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
