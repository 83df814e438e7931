"""Sizes declared in WAV, AIFF, W64, CAF, AU and SPHERE headers, and their correction."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeAlias, cast

from auricle.errors import AudioError

OPEN_SIZES = (0x7F00_0000, 1 << 31, 1 << 32)
OPEN_MARGIN = 1 << 16
"""Tolerance around `OPEN_SIZES`, which mean "unknown" in files written to a pipe.

sox's AIFF (0x7F000000 and the header), sox's WAV (0x7FFFF000), arecord (2^31), ffmpeg (2^32 - 1).
"""

LONG_OPEN = 1 << 62
"""64-bit sizes from here on mean "unknown"."""

SHORT_LIMIT = 0xFFFF_0000
"""Sizes from here on need an RF64 header."""

WAV_GSM = 0x31
"""Format tag of a WAV file with 65-byte blocks of GSM 6.10."""

SPHERE_HEADER_BYTES = 1024
"""Usual size of a NIST SPHERE header."""

W64_GUID = bytes.fromhex("2e91cf11a5d628db04c10000")
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
"""Last 12 of the 16 bytes of a W64 chunk identifier, of "riff" and of all others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes declared by a header.

    Attributes:
        data_start: Start of the samples.
        declared: Bytes of samples, None if unknown.
        corrected: Header up to the samples, with another size.
        chunk: Parses name and total size of a chunk; None if no chunks may follow.
        alignment: Alignment of chunks in bytes.
        data_names: Names of chunks with samples.
        is_ignored: Whether libsndfile reads samples to the end of the file regardless.
        is_padded: Whether libsndfile reads the pad byte after the samples as samples, as in WAV
            files of GSM 6.10, unless the declared size is one less.
    """

    data_start: int
    declared: int | None
    corrected: Callable[[int], bytes]
    chunk: Callable[[bytes], tuple[bytes, int]] | None = None
    alignment: int = 2
    data_names: tuple[bytes, ...] = ()
    is_ignored: bool = False
    is_padded: bool = False


def magic_at(contents: bytes) -> str:
    """Name of the container that starts with these 12 bytes, "" if none is known."""
    four = contents[:4]
    if four in (b"RIFF", b"RIFX", b"RF64", b"BW64") and contents[8:12] == b"WAVE":
        return "RIFF"
    if four == b"FORM" and contents[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return "FORM"
    if four == b"riff" and contents[4:12] == W64_GUID[:8]:
        return "W64"
    names = {b".snd": "AU", b"NIST": "SPHERE", b"caff": "CAF", b"fLaC": "FLAC", b"OggS": "OGG"}
    return names.get(four, "")


def _is_open(size: int) -> bool:
    return any(abs(size - marker) <= OPEN_MARGIN for marker in OPEN_SIZES)


def _riff_sizes(stream: BinaryIO, start: int, end: int) -> Sizes | None:
    """Sizes of RIFF and RF64 (EBU Tech 3306), and of AIFF and SVX, which are similar."""
    stream.seek(start)
    magic = stream.read(4)
    order = ">" if magic in (b"RIFX", b"FORM") else "<"
    names = (b"SSND", b"BODY") if magic == b"FORM" else (b"data",)

    def chunk(head: bytes) -> tuple[bytes, int]:
        name, size = struct.unpack(order + "4sI", head[:8])
        return name, size + 8

    position, long_at, long_size, is_gsm = start + 12, 0, 0, False
    while position + 8 <= end:
        stream.seek(position)
        name, size = chunk(stream.read(8))
        if name == b"ds64":  # RIFF size, data size, both 64 bits
            sizes = stream.read(16)
            long_at = position + 8
            long_size = struct.unpack("<QQ", sizes)[1] if len(sizes) == 16 else 0
        if name == b"fmt ":
            is_gsm = stream.read(2) == WAV_GSM.to_bytes(2, "big" if order == ">" else "little")
        if name in names:
            break
        position += size + size % 2
    else:
        return None
    data_start = position + 8
    stream.seek(start)
    header = stream.read(data_start - start)
    declared: int | None = size - 8
    is_long = long_at > 0 and size - 8 == 0xFFFF_FFFF
    if is_long:
        declared = long_size if 0 < long_size < LONG_OPEN else None
    elif declared is not None and _is_open(declared):
        declared = None
    if declared == 0 and long_at:
        declared = None

    def corrected(size: int) -> bytes:
        size -= size % 2 if is_gsm else 0
        form = len(header) - 8 + size
        patched = bytearray(header)
        if is_long:
            at = long_at - start
            patched[at : at + 16] = struct.pack("<QQ", form, size)
            if len(patched) >= at + 24:
                patched[at + 16 : at + 24] = bytes(8)
            return bytes(patched)
        if form < SHORT_LIMIT:
            patched[4:8] = struct.pack(order + "I", form)
            patched[-4:] = struct.pack(order + "I", size)
            return bytes(patched)
        if magic != b"RIFF":
            raise AudioError(
                f"its header has no room for the {size} bytes that it holds: convert it to RF64"
            )
        ds64 = b"ds64" + struct.pack("<IQQQI", 28, form + 36, size, 0, 0)
        return b"RF64\xff\xff\xff\xffWAVE" + ds64 + header[12:-4] + b"\xff\xff\xff\xff"

    return Sizes(
        data_start=data_start,
        declared=declared,
        corrected=corrected,
        chunk=chunk,
        data_names=names,
        is_ignored=name == b"BODY",
        is_padded=is_gsm and declared is not None and declared % 2 == 1,
    )


def _w64_sizes(stream: BinaryIO, start: int, end: int) -> Sizes | None:
    def chunk(head: bytes) -> tuple[bytes, int]:
        name = head[:4] if head[4:16] == W64_TAIL else b""
        return name, int.from_bytes(head[16:24], "little")

    position = start + 40
    while position + 24 <= end:
        stream.seek(position)
        name, size = chunk(stream.read(24))
        if name == b"data":
            break
        if size < 24:
            return None
        position += size + -size % 8
    else:
        return None
    data_start = position + 24
    stream.seek(start)
    header = stream.read(data_start - start)

    def corrected(size: int) -> bytes:
        total = (len(header) + size).to_bytes(8, "little")
        return header[:16] + total + header[24:-8] + (size + 24).to_bytes(8, "little")

    is_open = size >= LONG_OPEN or size < 24
    return Sizes(
        data_start=data_start,
        declared=None if is_open else size - 24,
        corrected=corrected,
        chunk=chunk,
        alignment=8,
        data_names=(b"data",),
        is_ignored=True,
    )


def _caf_sizes(stream: BinaryIO, start: int, end: int) -> Sizes | None:
    def chunk(head: bytes) -> tuple[bytes, int]:
        name, size = struct.unpack(">4sq", head[:12])
        return name, size + 12

    position = start + 8
    while position + 16 <= end:
        stream.seek(position)
        name, size = chunk(stream.read(12))
        if name == b"data":
            break
        if size < 12:
            return None
        position += size
    else:
        return None
    data_start = position + 16  # after a count of edits
    stream.seek(start)
    header = stream.read(data_start - start)

    def corrected(size: int) -> bytes:
        return header[:-12] + (size + 4).to_bytes(8, "big") + header[-4:]

    return Sizes(
        data_start=data_start,
        declared=None if size - 12 < 4 else size - 16,
        corrected=corrected,
        chunk=chunk,
        alignment=1,
        data_names=(b"data",),
    )


def _au_sizes(stream: BinaryIO, start: int, end: int) -> Sizes | None:
    stream.seek(start)
    header = stream.read(24)
    if len(header) < 24:
        return None
    offset, size = struct.unpack(">II", header[4:12])
    if not 24 <= offset <= end - start:
        return None
    stream.seek(start)
    header = stream.read(offset)

    def corrected(size: int) -> bytes:
        return header[:8] + struct.pack(">I", min(size, 0xFFFF_FFFF)) + header[12:]

    return Sizes(
        data_start=start + offset,
        declared=None if _is_open(size) else size,
        corrected=corrected,
        is_ignored=True,
    )


def _sphere_sizes(stream: BinaryIO, start: int, end: int) -> Sizes | None:
    stream.seek(start)
    text = stream.read(SPHERE_HEADER_BYTES)
    lines = text.split(b"\n")
    fields = {words[0]: words[2] for words in map(bytes.split, lines) if len(words) == 3}
    if fields.get(b"sample_coding", b"pcm") not in (b"pcm", b"ulaw", b"alaw", b"mu-law"):
        return None  # compressed: the number of samples does not determine the size
    try:
        header_bytes = int(lines[1])
        count, width, channels = (
            int(fields[key]) for key in (b"sample_count", b"sample_n_bytes", b"channel_count")
        )
    except (IndexError, KeyError, ValueError):
        return None
    if not 0 < header_bytes <= end - start or min(count, width - 1, channels - 1) < 0:
        return None
    stream.seek(start)
    header = stream.read(header_bytes)

    def corrected(size: int) -> bytes:
        new = b"sample_count -i %d" % (size // (width * channels))
        return re.sub(rb"sample_count -i +\d+", new, header)[:header_bytes].ljust(header_bytes)

    return Sizes(
        data_start=start + header_bytes,
        declared=count * width * channels,
        corrected=corrected,
        is_ignored=True,
    )


SIZES: dict[str, Callable[[BinaryIO, int, int], Sizes | None]] = {
    "RIFF": _riff_sizes,
    "FORM": _riff_sizes,
    "W64": _w64_sizes,
    "CAF": _caf_sizes,
    "AU": _au_sizes,
    "SPHERE": _sphere_sizes,
}


Piece: TypeAlias = "bytes | tuple[int, int]"
"""Bytes, or start and end of a span of the file."""

BUFFER_BYTES = 1 << 16


def spliced(stream: BinaryIO, pieces: Sequence[Piece]) -> BinaryIO:
    """Pieces as one seekable file, without a copy; closing it leaves `stream` open."""
    return cast(BinaryIO, io.BufferedReader(_Spliced(stream, pieces), BUFFER_BYTES))


class _Spliced(io.RawIOBase):
    """Concatenation of pieces for reading.

    A seek before the start goes to the start, as libsndfile follows arbitrary sizes of files.
    """

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
