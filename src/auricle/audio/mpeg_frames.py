"""MPEG audio frames: headers, synchronisation and tags (ISO 11172-3, ISO 13818-3)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import BinaryIO

from auricle.audio.notes import note
from auricle.errors import AudioError

BIT_RATES = {  # in kbit/s, by (is MPEG 1, layer); ISO 11172-3 2.4.2.3 and ISO 13818-3 2.4.2.3
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sample rates in Hz by the two version bits: MPEG 1, 2, 2.5."""

WINDOW_BYTES = 1 << 20
SCAN_BYTES = 1 << 16
"""Bytes that are searched for a frame before the first one and between two."""

MIN_ZEROS_SAID = 1 << 12
"""Fewer zeros after the last frame fill a disk block and are not reported."""

MAX_FRAME_BYTES = 6000
"""Upper bound of frame sizes: layer II at 384 kbit/s and 32 kHz (1728 bytes), free formats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """Parsed frame header; `num_bytes` is 0 in the free format."""

    version: int
    layer: int
    sample_rate: int
    num_channels: int
    num_bytes: int
    num_samples: int
    has_checksum: bool

    @property
    def kind(self) -> tuple[int, int, int, int]:
        """Properties that frames decoded together have in common."""
        return self.version, self.layer, self.sample_rate, self.num_channels

    @property
    def side_at(self) -> int:
        """Offset of the side information of layer III, after header and checksum."""
        return 6 if self.has_checksum else 4

    @property
    def side_bytes(self) -> int:
        """Size of the side information of layer III."""
        if self.version == 3:
            return 17 if self.num_channels == 1 else 32
        return 9 if self.num_channels == 1 else 17


def parse_header(head: bytes) -> Frame | None:
    """Parse a frame header of 4 bytes, None if it is not one."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bit_rate == 15 or rate == 3 or head[3] & 3 == 2:
        return None
    is_first = version == 3
    hertz, padding = RATES[version][rate], head[2] >> 1 & 1
    num_samples = 384 if layer == 1 else 1152 if layer == 2 or is_first else 576
    num_bytes = 0
    if bit_rate:
        bits = BIT_RATES[is_first, layer][bit_rate - 1] * 1000
        unit = 4 if layer == 1 else 1
        num_bytes = (num_samples // 8 // unit * bits // hertz + padding) * unit
    return Frame(
        version=version,
        layer=layer,
        sample_rate=hertz,
        num_channels=1 if head[3] >> 6 == 3 else 2,
        num_bytes=num_bytes,
        num_samples=num_samples,
        has_checksum=not head[1] & 1,
    )


def is_mpeg(stream: BinaryIO, start: int) -> bool:
    """True if two consecutive frames start at `start`."""
    stream.seek(start)
    contents = stream.read(2 * MAX_FRAME_BYTES)
    return _begins(contents, 0, None, is_all=len(contents) < 2 * MAX_FRAME_BYTES)


def read_frames(
    stream: BinaryIO, start: int, end: int, name: str
) -> Iterator[tuple[int, Frame, bytes]]:
    """Position, header and contents of each frame, skipping tags."""
    headers: dict[bytes, Frame | None] = {}
    base, window = start, b""
    position, kind, free_bytes = start, None, 0

    def fill(needed: int) -> None:
        nonlocal base, window
        if position + needed > base + len(window) and base + len(window) < end:
            stream.seek(position)
            base, window = position, stream.read(min(end - position, needed + WINDOW_BYTES))

    while position < end:
        fill(MAX_FRAME_BYTES)
        at = position - base
        head = window[at : at + 4]
        if head not in headers:
            headers[head] = parse_header(head)
        frame = headers[head]
        if frame is not None and kind is None:
            fill(2 * MAX_FRAME_BYTES)
            at = position - base
            if not _begins(window, at, None, is_all=base + len(window) >= end):
                frame = None
        if frame is None:
            fill(SCAN_BYTES)
            at = position - base
            tag_bytes = _tag_bytes(window[at : at + 32])
            if tag_bytes:
                position += tag_bytes
                continue
            found = _next_frame(window, at + 1, kind, is_all=base + len(window) >= end)
            if found is None and _goes_on(stream, position + SCAN_BYTES, end, kind):
                raise AudioError(
                    f"{name} is damaged: at byte {position} there are no frames of MPEG audio; "
                    "copy or convert it again"
                )
            if found is None:
                _check_rest(stream, position, end, name)
                return
            position = base + found
            continue
        if not frame.num_bytes:
            free_bytes = free_bytes or _free_bytes(window, at, head)
            padding = (head[2] >> 1 & 1) * (4 if frame.layer == 1 else 1)
            frame = dataclasses.replace(frame, num_bytes=free_bytes + padding)
            if not free_bytes:
                return
        kind = frame.kind
        if (cut_at := _cut_at(window, at, frame)) is not None:
            position = base + cut_at
            continue
        yield position, frame, window[at : at + frame.num_bytes]
        position += frame.num_bytes


def _begins(
    contents: bytes, at: int, kind: tuple[int, int, int, int] | None, *, is_all: bool
) -> bool:
    """True if a frame, of that kind if given, starts at `at`, followed by a frame or a tag."""
    frame = parse_header(contents[at : at + 4])
    if frame is None or (kind is not None and frame.kind != kind):
        return False
    if not frame.num_bytes:
        return _free_bytes(contents, at, contents[at : at + 4]) > 0
    after = at + frame.num_bytes
    if after >= len(contents):
        return is_all
    following = parse_header(contents[after : after + 4])
    return (following is not None and following.kind[:3] == frame.kind[:3]) or bool(
        _tag_bytes(contents[after : after + 32])
    )


def _cut_at(contents: bytes, at: int, frame: Frame) -> int | None:
    """Position of a frame inside a frame that neither a frame nor a tag follows, else None.

    There a truncated copy ended and other bytes were appended.
    """
    after = at + frame.num_bytes
    head = contents[after : after + 32]
    if len(head) < 4 or parse_header(head) is not None or _tag_bytes(head):
        return None
    return _next_frame(contents, at + 4, None, is_all=False, limit=after)


def _goes_on(
    stream: BinaryIO, start: int, end: int, kind: tuple[int, int, int, int] | None
) -> bool:
    """True if another frame of that kind follows after `start`."""
    while kind is not None and start < end:
        stream.seek(start)
        contents = stream.read(min(WINDOW_BYTES, end - start))
        if _next_frame(contents, 0, kind, is_all=False, limit=len(contents)) is not None:
            return True
        start += WINDOW_BYTES - 2 * MAX_FRAME_BYTES
    return False


def _check_rest(stream: BinaryIO, start: int, end: int, name: str) -> None:
    """Report bytes after the last frame.

    Raises:
        AudioError: They are the beginning of a header.
    """
    stream.seek(start)
    rest = stream.read(min(end - start, MIN_ZEROS_SAID))
    if len(rest) < 4 and rest[:1] == b"\xff" and rest[1:2] >= b"\xe0"[: len(rest) - 1]:
        raise AudioError(
            f"{name} has been cut short: it ends within the header of a frame; copy it again"
        )
    if len(rest) >= 4 and (any(rest) or len(rest) == MIN_ZEROS_SAID):
        note("mpeg rest", f"{name}: {end - start} bytes after its frames are no audio: left out")


def find_first_frame(stream: BinaryIO, start: int) -> int | None:
    """Position of three consecutive frames after other bytes; None if there are none near."""
    stream.seek(start)
    contents = stream.read(SCAN_BYTES + 3 * MAX_FRAME_BYTES)
    at = _next_frame(contents, 0, None, is_all=False)
    while at is not None:
        frame = parse_header(contents[at : at + 4])
        second = at + frame.num_bytes if frame is not None else at
        if (
            frame is not None
            and second > at
            and _begins(contents, second, frame.kind, is_all=False)
        ):
            return start + at
        at = _next_frame(contents, at + 1, None, is_all=False)
    return None


def _next_frame(
    contents: bytes,
    at: int,
    kind: tuple[int, int, int, int] | None,
    *,
    is_all: bool,
    limit: int | None = None,
) -> int | None:
    limit = at + SCAN_BYTES if limit is None else limit
    while (at := contents.find(b"\xff", at, limit)) >= 0:
        if _begins(contents, at, kind, is_all=is_all and kind is not None):
            return at
        at += 1
    return None


def _free_bytes(contents: bytes, at: int, head: bytes) -> int:
    """Size of a frame in the free format without padding, 0 if no frame follows."""
    unit = 4 if head[1] >> 1 & 3 == 3 else 1
    after = at + 24
    while (after := contents.find(head[:2], after, at + MAX_FRAME_BYTES)) >= 0:
        if contents[after + 2 : after + 3] and not (contents[after + 2] ^ head[2]) & 0xFC:
            return after - at - (head[2] >> 1 & 1) * unit
        after += 1
    return 0


def without_end_tags(stream: BinaryIO, start: int, end: int) -> int:
    """End of the audio before ID3v1, APE, Lyrics3 and appended ID3v2 tags."""
    while True:
        before = end
        stream.seek(max(start, end - 227 - 128))
        tail = stream.read(end - stream.tell())
        if tail[-128:-125] == b"TAG":
            end -= 128
            if tail[-355:-351] == b"TAG+":
                end -= 227
        elif tail[-32:-24] == b"APETAGEX":
            has_header = int.from_bytes(tail[-12:-8], "little") >> 31
            end -= int.from_bytes(tail[-20:-16], "little") + 32 * has_header
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            end -= int(tail[-15:-9]) + 15
        elif tail[-10:-7] == b"3DI":
            end -= _syncsafe(tail[-4:]) + 20
        end = max(start, end)
        if end == before:
            return end


def _tag_bytes(head: bytes) -> int:
    """Size of the tag that starts with these bytes, 0 if none does."""
    if head[:3] == b"ID3" and len(head) >= 10 and not any(byte & 0x80 for byte in head[6:10]):
        return _syncsafe(head[6:10]) + 10 + 10 * (head[5] >> 4 & 1)
    if head[:4] == b"TAG+":
        return 227
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX" and len(head) >= 24:
        is_header = int.from_bytes(head[20:24], "little") >> 29 & 1
        return int.from_bytes(head[12:16], "little") + 32 if is_header else 32
    return 0


def _syncsafe(four: bytes) -> int:
    """Syncsafe integer of ID3v2: seven bits per byte."""
    return four[0] << 21 | four[1] << 14 | four[2] << 7 | four[3]


def audio_start(stream: BinaryIO) -> int:
    """Start of the audio after ID3v2 tags, which other formats may have too."""
    end = stream.seek(0, os.SEEK_END)
    start = 0
    while True:
        stream.seek(start)
        head = stream.read(10)
        size = _tag_bytes(head) if head[:3] == b"ID3" else 0
        if not size or start + size >= end:
            return start
        start += size
