"""MPEG audio (MP3): frames are counted and handed to the decoder so that every sample comes out.

Without a Xing frame libsndfile estimates the length from the first frame's bit rate and reads no
further; of files one after the other it reads the first; where it seeks, the first frames lack the
bits that earlier ones hold for them. Here the frames are found by their own headers, without the
tags, and silent ones are put before them, by which that estimate is never too small. What an
encoder and a decoder add at both ends (as the tags of Xing and LAME say) is cut off here.
"""

from __future__ import annotations

import dataclasses
import os
from array import array
from collections.abc import Iterator
from typing import BinaryIO

from auricle.audio.notes import note
from auricle.audio.splicing import Piece
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
"""Sample rates in Hz by the version's two bits: MPEG 1, 2, 2.5."""

DECODER_DELAY = 529
"""Samples by which every decoder of layer III is late; LAME's counts leave them out."""

LEAD_SECONDS = 1.0
"""How far before a part decoding begins; what a frame leaves for later ones lasts two frames."""

PHASES = 8
"""Frames after which the ring buffer of libmpg123's synthesis stands as before: from a multiple
of them on, sums are rounded as in a decoding of the whole."""

RESERVOIR_BYTES = 511
"""How far back the data of a frame may begin, in that of frames before it."""

WINDOW_BYTES = 1 << 20
SCAN_BYTES = 1 << 16
"""How much may lie before the first frame, or between two, before the search is given up."""

MIN_ZEROS_SAID = 1 << 12
"""Fewer zeros after the last frame fill up a block of a disk."""

MAX_FRAME_BYTES = 6000
"""Above the largest frame, layer II at 384 kbit/s and 32 kHz (1728 bytes), and free formats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """What a frame's header says; `num_bytes` is 0 in the free format."""

    version: int
    layer: int
    sample_rate: int
    num_channels: int
    num_bytes: int
    num_samples: int
    has_checksum: bool

    @property
    def kind(self) -> tuple[int, int, int, int]:
        """What all frames that are decoded together have in common."""
        return self.version, self.layer, self.sample_rate, self.num_channels

    @property
    def side_at(self) -> int:
        """Where layer III's side information begins, after header and checksum."""
        return 6 if self.has_checksum else 4

    @property
    def side_bytes(self) -> int:
        """Size of layer III's side information."""
        if self.version == 3:
            return 17 if self.num_channels == 1 else 32
        return 9 if self.num_channels == 1 else 17


def parse_header(head: bytes) -> Frame | None:
    """A frame's header of 4 bytes, None if it is none."""
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


@dataclasses.dataclass(kw_only=True)
class MpegLink:
    """Frames of one kind, one after the other: what one encoder wrote.

    Attributes:
        frame: Of the first.
        head: Its header.
        offsets: Where each begins in the file.
        end: Where the last ends; the file may end before.
        gaps: What lies between frames and is none, from where to where.
        promised_frames: How many a tag says there are, None without one.
        promised_end: Where they end by the tag's count of bytes, None without one.
        skipped_samples: What an encoder and a decoder put before the first sample.
        padding_samples: What the encoder put after the last one.
        free_bytes: Size of a frame in the free format, without padding.
    """

    frame: Frame
    head: bytes
    offsets: array[int] = dataclasses.field(default_factory=lambda: array("Q"))
    end: int = 0
    gaps: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    promised_frames: int | None = None
    promised_end: int | None = None
    skipped_samples: int = 0
    padding_samples: int = 0
    free_bytes: int = 0

    @property
    def num_samples(self) -> int:
        """Samples of one channel, without what the encoder appended."""
        whole = len(self.offsets) * self.frame.num_samples
        decoded_end = whole
        if self.skipped_samples:
            decoded_end = min(whole, whole - self.padding_samples + DECODER_DELAY)
        return max(0, decoded_end - self.skipped_samples)

    def pieces(self, stream: BinaryIO, start: int) -> tuple[list[Piece], int]:
        """A stream from which sample `start` can be decoded, and how many come before it."""
        size = self.frame.num_samples
        at = start + self.skipped_samples
        lead = -(-int(LEAD_SECONDS * self.frame.sample_rate) // size)
        first = max(0, at // size - lead) // PHASES * PHASES
        # Frames before the first one lend it their data, silent: of as many as it may need.
        num_muted = held = 0
        while held < RESERVOIR_BYTES and num_muted < first and self.frame.layer == 3:
            num_muted += 1
            held += self.offsets[first - num_muted + 1] - self.offsets[first - num_muted]
            held -= self.frame.side_at + self.frame.side_bytes
        num_before = num_muted // PHASES * PHASES + PHASES
        pieces: list[Piece] = [self._silence()] * (num_before - num_muted)
        held = 0
        for offset in self.offsets[first - num_muted : first]:
            silence, data = self._muted(stream, offset, held)
            pieces += [silence, data]
            held += data[1] - data[0]
        begin = self.offsets[first]
        for gap_start, gap_end in self.gaps:
            if gap_start > begin:
                pieces.append((begin, gap_start))
                begin = gap_end
        return [*pieces, (begin, self.end)], at + (num_before - first) * size

    def _muted(self, stream: BinaryIO, offset: int, held: int) -> tuple[bytes, tuple[int, int]]:
        """A frame whose side information says that it is silent, and its data, which may belong to
        later ones; it passes on what frames before it `held`, in bytes."""
        stream.seek(offset)
        head = stream.read(4)
        frame = parse_header(head)
        assert frame is not None
        num_bytes = frame.num_bytes or self.free_bytes + (head[2] >> 1 & 1)
        side_end = frame.side_at + frame.side_bytes
        begin = min(held, RESERVOIR_BYTES if frame.version == 3 else RESERVOIR_BYTES // 2)
        first_bits = (begin << 7 if frame.version == 3 else begin << 8).to_bytes(2, "big")
        silence = (head.ljust(frame.side_at, b"\0") + first_bits).ljust(side_end, b"\0")
        return silence, (offset + side_end, offset + num_bytes)

    def _silence(self) -> bytes:
        """The shortest frame there is, and silent: by the first one the decoder estimates how many
        come, so that it never expects too few."""
        second = 0xE1 | self.frame.version << 3 | (4 - self.frame.layer) << 1
        rate = RATES[self.frame.version].index(self.frame.sample_rate)
        head = bytes([0xFF, second, 1 << 4 | rate << 2, self.head[3] & 0xC0])
        frame = parse_header(head)
        assert frame is not None
        return head.ljust(frame.num_bytes, b"\0")


def is_mpeg(stream: BinaryIO, start: int) -> bool:
    """Does a frame begin there, and another one right after it?"""
    stream.seek(start)
    contents = stream.read(2 * MAX_FRAME_BYTES)
    return _begins(contents, 0, None, is_all=len(contents) < 2 * MAX_FRAME_BYTES)


def find_links(stream: BinaryIO, start: int, end: int, name: str) -> list[MpegLink]:
    """The frames of a file from `start` to `end`, by encodings that follow each other.

    Raises:
        AudioError: There are none; a tag promises more than there are, or the last is incomplete;
            bytes between them are no frames.
    """
    end = without_end_tags(stream, start, end)
    links: list[MpegLink] = []
    for position, frame, contents in _frames(stream, start, end, name):
        link = links[-1] if links else None
        tagged = _tagged_link(frame, contents) if frame.layer == 3 else None
        if tagged is not None:
            if tagged.promised_end is not None:
                tagged.promised_end += position
            links.append(tagged)
            continue
        if link is None or link.frame.kind != frame.kind or _is_complete(link, frame, contents):
            if link is not None and not link.offsets:
                link.frame, link.head = frame, contents[:4]  # a tag says nothing of the channels
            else:
                link = MpegLink(frame=frame, head=contents[:4])
                links.append(link)
        if link.offsets and position > link.end:
            link.gaps.append((link.end, position))
        link.offsets.append(position)
        if contents[2] < 0x10:
            link.free_bytes = frame.num_bytes - (contents[2] >> 1 & 1)
        link.end = position + frame.num_bytes
    links = [link for link in links if link.offsets]
    if not links:
        raise AudioError(f"{name} holds no frames of MPEG audio: copy or convert it again")
    for link in links:
        _check(link, end, name)
    num_bytes = sum(stop - start for link in links for start, stop in link.gaps)
    if num_bytes:
        note("mpeg gaps", f"{name}: {num_bytes} bytes between its frames are no audio: left out")
    return links


def _check(link: MpegLink, end: int, name: str) -> None:
    """Raise AudioError where a tag or the last frame proves that the file has been cut."""
    held = len(link.offsets) - (link.end > end)
    if link.promised_frames == held + 1 and link.end == link.promised_end:
        link.promised_frames = held  # some writers count the frame of the tag too
    if link.promised_frames is not None and held < link.promised_frames:
        size = link.frame.num_samples
        raise AudioError(
            f"{name} has been cut short: its header promises {link.promised_frames * size} "
            f"samples, but it holds {held * size}; copy or convert it again"
        )
    if link.promised_frames is not None and held > link.promised_frames:
        link.padding_samples = 0  # the tag is from before more was written
    if link.end > end:
        raise AudioError(
            f"{name} has been cut short: its last frame lacks {link.end - end} bytes; copy it "
            "again, or keep what is whole: ffmpeg -i FILE -c copy NEW.mp3"
        )


def _is_complete(link: MpegLink, frame: Frame, contents: bytes) -> bool:
    """Has a link all frames that its tag promises, and does `frame` need none of their bits?"""
    if link.promised_frames is None or len(link.offsets) != link.promised_frames:
        return False
    side = contents[frame.side_at : frame.side_at + 2]
    reservoir = side[0] << 1 | side[1] >> 7 if frame.version == 3 else side[0]
    return reservoir == 0


def _tagged_link(frame: Frame, contents: bytes) -> MpegLink | None:
    """An empty link, where a frame is a tag of Xing, LAME or Fraunhofer (VBRI) and no audio."""
    if contents[36:40] == b"VBRI":
        return MpegLink(
            frame=frame, head=contents[:4], promised_frames=_number(contents, 50, 4) or None
        )
    at = frame.side_at + frame.side_bytes
    if contents[at : at + 4] not in (b"Xing", b"Info"):
        at = 4 + frame.side_bytes  # writers that count no checksum
        if contents[at : at + 4] not in (b"Xing", b"Info"):
            return None
    flags = _number(contents, at + 4, 4)
    lame = at + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1)
    lame += 4 * (flags >> 3 & 1)
    link = MpegLink(frame=frame, head=contents[:4])
    if flags & 1:
        link.promised_frames = _number(contents, at + 8, 4) or None
    if flags & 2:
        link.promised_end = _number(contents, at + 8 + 4 * (flags & 1), 4) or None
    if link.promised_frames and len(contents) >= lame + 24 and contents[lame]:
        delays = _number(contents, lame + 21, 3)
        link.skipped_samples = (delays >> 12) + DECODER_DELAY
        link.padding_samples = delays & 0xFFF
    return link


def _frames(
    stream: BinaryIO, start: int, end: int, name: str
) -> Iterator[tuple[int, Frame, bytes]]:
    """Place, header and contents of each frame; tags between them are skipped."""
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
    """Does a frame, of that kind, stand there, with another one or a tag after it?"""
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
    """Where another frame begins within one that neither a frame nor a tag follows: a copy ended
    there, and other bytes were appended. None where none does."""
    after = at + frame.num_bytes
    head = contents[after : after + 32]
    if len(head) < 4 or parse_header(head) is not None or _tag_bytes(head):
        return None
    return _next_frame(contents, at + 4, None, is_all=False, limit=after)


def _goes_on(
    stream: BinaryIO, start: int, end: int, kind: tuple[int, int, int, int] | None
) -> bool:
    """Is there another frame of a kind from `start` on?"""
    while kind is not None and start < end:
        stream.seek(start)
        contents = stream.read(min(WINDOW_BYTES, end - start))
        if _next_frame(contents, 0, kind, is_all=False, limit=len(contents)) is not None:
            return True
        start += WINDOW_BYTES - 2 * MAX_FRAME_BYTES
    return False


def _check_rest(stream: BinaryIO, start: int, end: int, name: str) -> None:
    """Say what follows the last frame and is none.

    Raises:
        AudioError: It is the beginning of a header.
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
    """Where three frames in a row begin, after bytes that are none; None if nowhere near."""
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
    """Size of a frame in the free format without padding, 0 if no other frame follows."""
    unit = 4 if head[1] >> 1 & 3 == 3 else 1
    after = at + 24
    while (after := contents.find(head[:2], after, at + MAX_FRAME_BYTES)) >= 0:
        if contents[after + 2 : after + 3] and not (contents[after + 2] ^ head[2]) & 0xFC:
            return after - at - (head[2] >> 1 & 1) * unit
        after += 1
    return 0


def without_end_tags(stream: BinaryIO, start: int, end: int) -> int:
    """Where audio ends before ID3v1, APE, Lyrics3 and appended ID3v2 tags."""
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
    """Size of a tag that begins there, 0 if none does."""
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
    """ID3v2's numbers: seven bits a byte."""
    return four[0] << 21 | four[1] << 14 | four[2] << 7 | four[3]


def _number(contents: bytes, at: int, size: int) -> int:
    return int.from_bytes(contents[at : at + size], "big")


def audio_start(stream: BinaryIO) -> int:
    """Where a file begins after ID3v2 tags at its front, which other formats may carry too."""
    end = stream.seek(0, os.SEEK_END)
    start = 0
    while True:
        stream.seek(start)
        head = stream.read(10)
        size = _tag_bytes(head) if head[:3] == b"ID3" else 0
        if not size or start + size >= end:
            return start
        start += size
