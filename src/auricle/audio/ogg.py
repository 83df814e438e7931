"""Ogg: the links of a chain, and the pages that are missing or damaged (RFC 3533)."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from auricle.errors import AudioError

HEADER_BYTES = 27
MAX_PAGE_BYTES = HEADER_BYTES + 255 + 255 * 255
"""Header, segment table and 255 segments of 255 bytes: RFC 3533, section 6."""

CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex"}
"""What the first packet of an audio stream begins with."""

FIRST_PAGE, LAST_PAGE = 2, 4

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A page: where it lies, and what its header says."""

    start: int
    end: int
    flags: int
    granule: int
    serial: int
    number: int
    codec: str


@dataclasses.dataclass(kw_only=True)
class OggLink:
    """Streams that begin together; a chain has several links.

    Attributes:
        start: Where the first page begins.
        end: Where the last one ends.
        codecs: Of its audio streams.
        tail_samples: What the last two pages hold, where libsndfile lands elsewhere when it seeks;
            None where there are no others.
        has_last_page: Does a page say that it is the last of its stream?
    """

    start: int
    end: int
    codecs: list[str] = dataclasses.field(default_factory=list)
    tail_samples: int | None = None
    has_last_page: bool = False


def find_links(stream: BinaryIO, start: int, end: int, name: str) -> list[OggLink]:
    """The links from `start` to `end`; every page is read.

    Raises:
        AudioError: A page is cut, damaged or missing.
    """
    links: list[OggLink] = []
    granules: list[int] = []
    last: dict[int, Page] = {}
    in_head = False
    for page in _pages(stream, start, end, name):
        if page.flags & FIRST_PAGE:
            if not in_head:
                links.append(OggLink(start=page.start, end=page.end))
                granules, last = [], {}
            in_head = True
            if page.codec:
                links[-1].codecs.append(page.codec)
        else:
            in_head = False
            _check_order(last.get(page.serial), page, name)
        if not links:
            raise AudioError(
                f"{name} begins within a stream, its first pages are missing: copy it again"
            )
        last[page.serial] = page
        link = links[-1]
        link.end = page.end
        link.has_last_page = link.has_last_page or bool(page.flags & LAST_PAGE)
        if page.granule > 0 and len(link.codecs) == 1:
            granules = [*granules[-2:], page.granule]
            link.tail_samples = granules[2] - granules[0] if len(granules) == 3 else None
    return links


def is_chained(stream: BinaryIO, start: int, end: int) -> bool:
    """Does the last page belong to another stream than the first? Reads those two alone."""
    stream.seek(start)
    first = stream.read(HEADER_BYTES)
    stream.seek(max(start, end - MAX_PAGE_BYTES))
    tail = stream.read(MAX_PAGE_BYTES)
    return first[14:18] != tail[(at := tail.rfind(b"OggS\0")) + 14 : at + 18]


def _check_order(before: Page | None, page: Page, name: str) -> None:
    # A recording of a live stream begins somewhere after the headers.
    if before is None or before.granule == 0 or page.number == (before.number + 1) & 0xFFFF_FFFF:
        return
    raise AudioError(
        f"{name} is damaged: before byte {page.start}, page {page.number} follows page "
        f"{before.number}; copy it again, or keep what is there: ffmpeg -i FILE NEW.flac"
    )


def _pages(stream: BinaryIO, start: int, end: int, name: str) -> Iterator[Page]:
    position = start
    while position < end:
        stream.seek(position)
        head = stream.read(HEADER_BYTES)
        if head[:4] != b"OggS"[: len(head)]:
            if not stream.read(end - position).count(b"OggS"):
                return  # a tag or zeros after the end
            raise _damaged(name, position)
        num_segments = head[26] if len(head) == HEADER_BYTES else 0
        table = stream.read(num_segments)
        page_end = position + HEADER_BYTES + num_segments + sum(table)
        if page_end > end or len(head) < HEADER_BYTES or len(table) < num_segments:
            raise AudioError(
                f"{name} has been cut short: the page at byte {position} promises "
                f"{max(page_end - end, 1)} bytes more than it holds; copy or convert it again"
            )
        body = stream.read(sum(table))
        _, _, flags, granule, serial, number, checksum = struct.unpack("<4sBBqIII", head[:26])
        if checksum != _checksum(head[:22] + bytes(4) + head[26:] + table + body):
            raise _damaged(name, position)
        codec = next((codec for magic, codec in CODECS.items() if body.startswith(magic)), "")
        yield Page(
            start=position,
            end=page_end,
            flags=flags,
            granule=granule,
            serial=serial,
            number=number,
            codec=codec if flags & FIRST_PAGE else "",
        )
        position = page_end


def _damaged(name: str, position: int) -> AudioError:
    return AudioError(
        f"{name} is damaged: the page at byte {position} is not what was written; copy it again, "
        "or keep what is there: ffmpeg -i FILE NEW.flac"
    )


def _checksum(page: bytes) -> int:
    """Ogg's CRC: that of zlib with bits reversed, nothing set before and nothing inverted after."""
    crc = zlib.crc32(page.translate(REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{crc:032b}"[::-1], 2)
