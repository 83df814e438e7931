"""MPEG audio (MP3): frames are counted and handed to the decoder so that every sample comes out.

Without a Xing frame libsndfile estimates the length from the first frame's bit rate and reads no
further; of files one after the other it reads the first; where it seeks, the first frames lack the
bits that earlier ones hold for them. Here the frames are found by their own headers, without the
tags, and silent ones are put before them, by which that estimate is never too small. What an
encoder and a decoder add at both ends (as the tags of Xing and LAME say) is cut off here.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import BinaryIO

from auricle.audio.headers import Piece
from auricle.audio.mpeg_frames import RATES, Frame, _frames, _number, parse_header, without_end_tags
from auricle.audio.notes import note
from auricle.errors import AudioError

DECODER_DELAY = 529
"""Samples by which every decoder of layer III is late; LAME's counts leave them out."""

LEAD_SECONDS = 1.0
"""How far before a part decoding begins; what a frame leaves for later ones lasts two frames."""

PHASES = 8
"""Frames after which the ring buffer of libmpg123's synthesis stands as before: from a multiple
of them on, sums are rounded as in a decoding of the whole."""

RESERVOIR_BYTES = 511
"""How far back the data of a frame may begin, in that of frames before it."""


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
