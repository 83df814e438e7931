"""Audio that a file's own header promises but the file does not hold.

libsndfile shortens what it reports when a WAV, AIFF, AU or SPHERE file was cut, so a broken copy
would pass for a shorter recording. The sizes are read here from the header itself. FLAC and MP3
need no such look: there fewer frames are decoded than their headers say. A file whose header
leaves the size open (written to a pipe) promises nothing, and neither does an Ogg file cut exactly
between two pages.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

OPEN_SIZE = 0x7FFF_0000
"""32-bit sizes from here up stand for "unknown" in streamed files (sox, ffmpeg: 0x7FFFF000 up)."""

OGG_HEADER_BYTES = 27
OGG_MAX_PAGE_BYTES = OGG_HEADER_BYTES + 255 + 255 * 255
"""Header, segment table and 255 segments of 255 bytes: RFC 3533, section 6."""

SPHERE_HEADER_BYTES = 1024
"""The usual, and by far the most common, size of a NIST SPHERE header."""


def missing_bytes(stream: BinaryIO) -> int:
    """Bytes by which the file is shorter than its header promises; 0 where it promises nothing.

    `stream` is seekable and is left at its start.
    """
    num_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    magic = stream.read(4)
    if magic in (b"RIFF", b"RF64", b"BW64"):
        end = _chunk_end(stream, num_bytes, "<", b"data")
    elif magic in (b"RIFX", b"FORM"):
        end = _chunk_end(stream, num_bytes, ">", b"SSND" if magic == b"FORM" else b"data")
    elif magic == b".snd":
        end = _au_end(stream)
    elif magic == b"NIST":
        end = _sphere_end(stream)
    elif magic == b"OggS":
        end = _last_ogg_page_end(stream, num_bytes)
    else:
        end = 0
    stream.seek(0)
    return max(0, end - num_bytes)


def _chunk_end(stream: BinaryIO, num_bytes: int, byte_order: str, audio_name: bytes) -> int:
    """Where the audio chunk of a RIFF, RF64 or IFF file should end."""
    position = 12
    long_size = 0
    while position + 8 <= num_bytes:
        stream.seek(position)
        name, size = struct.unpack(byte_order + "4sI", stream.read(8))
        if name == b"ds64":  # EBU Tech 3306: RIFF size, data size, both 64 bits
            sizes = stream.read(16)
            long_size = struct.unpack("<QQ", sizes)[1] if len(sizes) == 16 else 0
        if name == audio_name:
            if size == 0xFFFF_FFFF and long_size:
                return position + 8 + long_size
            return 0 if size >= OPEN_SIZE else position + 8 + size
        position += 8 + size + size % 2
    return 0


def _au_end(stream: BinaryIO) -> int:
    header = stream.read(8)
    if len(header) < 8:
        return 0
    offset, size = struct.unpack(">II", header)
    return 0 if size >= OPEN_SIZE else offset + size


def _sphere_end(stream: BinaryIO) -> int:
    stream.seek(0)
    lines = stream.read(SPHERE_HEADER_BYTES).split(b"\n")
    fields = {words[0]: words[2] for words in map(bytes.split, lines) if len(words) == 3}
    if fields.get(b"sample_coding", b"pcm") not in (b"pcm", b"ulaw", b"alaw", b"mu-law"):
        return 0  # compressed: the size does not follow from the number of samples
    try:
        header_bytes = int(lines[1])
        sizes = [int(fields[key]) for key in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    except (IndexError, KeyError, ValueError):
        return 0
    return header_bytes + sizes[0] * sizes[1] * sizes[2]


def _last_ogg_page_end(stream: BinaryIO, num_bytes: int) -> int:
    """Where the last page that begins in the file should end."""
    start = max(0, num_bytes - OGG_MAX_PAGE_BYTES)
    stream.seek(start)
    tail = stream.read()
    page = tail.rfind(b"OggS\0")
    if page < 0:
        return 0
    num_segments_at = page + OGG_HEADER_BYTES - 1
    if num_segments_at >= len(tail):
        return start + page + OGG_HEADER_BYTES
    num_segments = tail[num_segments_at]
    segments = tail[num_segments_at + 1 : num_segments_at + 1 + num_segments]
    return start + num_segments_at + 1 + num_segments + sum(segments)
