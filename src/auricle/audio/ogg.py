"""Ogg pages: links of a chain, missing and damaged pages (RFC 3533)."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from auricle.audio.headers import Piece
from auricle.errors import AudioError

HEADER_BYTES = 27
MAX_PAGE_BYTES = HEADER_BYTES + 255 + 255 * 255
"""Header, segment table and 255 segments of 255 bytes: RFC 3533, section 6."""

CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex"}
"""First bytes of the first packet of an audio stream, by codec."""

FIRST_PAGE, LAST_PAGE = 2, 4

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """Page of an Ogg file: position and header.

    `packets` holds the first two bytes of each packet; `is_open` is True if the last one continues
    on the next page.
    """

    start: int
    end: int
    flags: int
    granule: int
    serial: int
    number: int
    codec: str
    packets: tuple[bytes, ...]
    is_open: bool

    @property
    def is_continued(self) -> bool:
        """True if the page starts within a packet."""
        return bool(self.flags & 1)


@dataclasses.dataclass(kw_only=True)
class OggLink:
    """Streams that start together; a chain has several links.

    Attributes:
        start: Start of the first page.
        end: End of the last page.
        codecs: Codecs of its audio streams.
        tail_samples: Samples of the last two pages, where libsndfile seeks inexactly; None if there
            are no others.
        has_last_page: Whether a page is marked as the last of its stream.
        opus: Positions of its Opus pages, if it has no other stream.
    """

    start: int
    end: int
    codecs: list[str] = dataclasses.field(default_factory=list)
    tail_samples: int | None = None
    has_last_page: bool = False
    opus: OpusPages | None = None

    def pieces(self, stream: BinaryIO) -> list[Piece]:
        """Bytes and spans of the file that libsndfile reads."""
        corrected = self.opus.corrected() if self.opus is not None else []
        pieces: list[Piece] = []
        position = self.start
        for start, end, granule in corrected:
            stream.seek(start)
            page = stream.read(end - start)
            head = page[:6] + granule.to_bytes(8, "little") + page[14:22]
            checksum = _checksum(head + bytes(4) + page[26:])
            pieces += [(position, start), head + checksum.to_bytes(4, "little")]
            position = start + 26
        return [*pieces, (position, self.end)]


class OpusPages:
    """Granule positions of an Opus stream, declared by its pages and computed from its packets.

    FFmpeg, converting Vorbis to Opus, writes pages that start late and then overlap, which
    libsndfile refuses.
    """

    def __init__(self) -> None:
        self._pages: list[tuple[int, int, int, int]] = []
        self._held = 0
        self._pending = b""
        self._num_packets = 0

    def add(self, page: Page) -> None:
        """Add a page and count the packets that end on it."""
        packets = [self._pending, *page.packets] if page.is_continued else list(page.packets)
        self._pending = packets.pop() if page.is_open and packets else b""
        for packet in packets:
            self._num_packets += 1
            if self._num_packets > 2:  # after the two headers
                self._held += _opus_samples(packet)
        if self._num_packets > 2 and page.granule >= 0:
            self._pages.append((page.start, page.end, page.granule, self._held))

    def corrected(self) -> list[tuple[int, int, int]]:
        """Spans of pages and their corrected granule positions; empty if they are right.

        The last page declares the end of the stream and is not changed.
        """
        *pages, last = self._pages or [(0, 0, 0, 0)]
        offsets = {granule - held for _, _, granule, held in pages}
        if len(offsets) < 2 or not pages[-1][3] < last[2] <= last[3]:
            return []
        return [(start, end, held) for start, end, _, held in pages]


def find_links(stream: BinaryIO, start: int, end: int, name: str) -> list[OggLink]:
    """Links from `start` to `end`; reads every page.

    Raises:
        AudioError: A page is truncated, damaged or missing.
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
                links[-1].opus = OpusPages() if page.codec == "Opus" else None
            else:
                links[-1].opus = None
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
        if link.opus is not None:
            link.opus.add(page)
        link.has_last_page = link.has_last_page or bool(page.flags & LAST_PAGE)
        if page.granule > 0 and len(link.codecs) == 1:
            granules = [*granules[-2:], page.granule]
            link.tail_samples = granules[2] - granules[0] if len(granules) == 3 else None
    return links


def is_chained(stream: BinaryIO, start: int, end: int) -> bool:
    """True if the first and the last page, which alone are read, belong to different streams."""
    stream.seek(start)
    first = stream.read(HEADER_BYTES)
    stream.seek(max(start, end - MAX_PAGE_BYTES))
    tail = stream.read(MAX_PAGE_BYTES)
    return first[14:18] != tail[(at := tail.rfind(b"OggS\0")) + 14 : at + 18]


def _check_order(before: Page | None, page: Page, name: str) -> None:
    # A recorded live stream starts at any page after the headers.
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
            packets=tuple(_packets(table, body, is_continued=bool(flags & 1))),
            is_open=table[-1:] == b"\xff",
        )
        position = page_end


def _packets(table: bytes, body: bytes, *, is_continued: bool) -> Iterator[bytes]:
    """First two bytes of each packet that starts on a page."""
    position, is_first = 0, not is_continued
    for size in table:
        if is_first:
            yield body[position : position + 2]
        position += size
        is_first = size < 255


def _opus_samples(packet: bytes) -> int:
    """Samples of a packet at 48 kHz: RFC 6716, section 3.1."""
    if not packet:
        return 0
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        size = (480, 960, 1920, 2880)[config & 3]
    else:
        size = (480, 960)[config & 1] if config < 16 else 120 << (config & 3)
    count = packet[1] & 63 if code == 3 and len(packet) > 1 else min(code, 1) + 1
    return size * count


def _damaged(name: str, position: int) -> AudioError:
    return AudioError(
        f"{name} is damaged: the page at byte {position} is not what was written; copy it again, "
        "or keep what is there: ffmpeg -i FILE NEW.flac"
    )


def _checksum(page: bytes) -> int:
    """Ogg's CRC: zlib's with reversed bits, initial value 0 and no final inversion."""
    crc = zlib.crc32(page.translate(REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{crc:032b}"[::-1], 2)
