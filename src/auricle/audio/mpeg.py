"""MPEG audio (MP3): sample-exact length and seeking.

Without a Xing frame libsndfile estimates the length from the bit rate of the first frame and reads
no further; it reads only the first of concatenated files; and after a seek the first frames lack
their bit reservoir. Here frames are located by their headers, without tags, and silent frames are
prepended so that the estimate is never too small. Encoder and decoder delay and padding, from the
Xing and LAME tags, are removed.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import BinaryIO

from auricle.audio.headers import Piece
from auricle.audio.mpeg_frames import RATES, Frame, parse_header, read_frames, without_end_tags
from auricle.audio.notes import note
from auricle.errors import AudioError

DECODER_DELAY = 529
"""Delay in samples of every layer III decoder, which LAME's counts exclude."""

LEAD_SECONDS = 1.0
"""Lead-in decoded before a span; a frame's reservoir reaches back at most two frames."""

PHASES = 8
"""Period in frames of the ring buffer of libmpg123's synthesis filter.

Decoding that starts at a multiple of it rounds sums as a full decode does.
"""

RESERVOIR_BYTES = 511
"""Size of the bit reservoir: the data of a frame may begin this far back in earlier frames."""


@dataclasses.dataclass(kw_only=True)
class MpegLink:
    """Consecutive frames written by one encoder.

    Attributes:
        frame: Header of the first frame, parsed.
        head: Its bytes.
        offsets: Positions of the frames in the file.
        end: End of the last frame; the file may end before.
        gaps: Spans between frames that are not frames.
        promised_frames: Number of frames declared by a tag, None without one.
        promised_end: End of the frames declared by a tag, None without one.
        skipped_samples: Delay of encoder and decoder at the start.
        padding_samples: Padding by the encoder at the end.
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
        """Samples per channel, without delay and padding."""
        whole = len(self.offsets) * self.frame.num_samples
        decoded_end = whole
        if self.skipped_samples:
            decoded_end = min(whole, whole - self.padding_samples + DECODER_DELAY)
        return max(0, decoded_end - self.skipped_samples)

    def pieces(self, stream: BinaryIO, start: int) -> tuple[list[Piece], int]:
        """Pieces from which sample `start` can be decoded, and the number of samples before it."""
        size = self.frame.num_samples
        at = start + self.skipped_samples
        lead = -(-int(LEAD_SECONDS * self.frame.sample_rate) // size)
        first = max(0, at // size - lead) // PHASES * PHASES
        # Muted frames before the first one supply its bit reservoir.
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
        """Frame with silent side information, and the span of its data, which later frames may use.

        `held` is the size in bytes of the reservoir from the frames before.
        """
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
        """Shortest silent frame, whose bit rate never gives too small an estimate of the length."""
        second = 0xE1 | self.frame.version << 3 | (4 - self.frame.layer) << 1
        rate = RATES[self.frame.version].index(self.frame.sample_rate)
        head = bytes([0xFF, second, 1 << 4 | rate << 2, self.head[3] & 0xC0])
        frame = parse_header(head)
        assert frame is not None
        return head.ljust(frame.num_bytes, b"\0")


def find_links(stream: BinaryIO, start: int, end: int, name: str) -> list[MpegLink]:
    """Locate the frames from `start` to `end`, grouped by encoding.

    Raises:
        AudioError: There are none; a tag declares more than there are; the last frame is
            incomplete; or bytes between frames are not frames.
    """
    end = without_end_tags(stream, start, end)
    links: list[MpegLink] = []
    for position, frame, contents in read_frames(stream, start, end, name):
        link = links[-1] if links else None
        tagged = _tagged_link(frame, contents) if frame.layer == 3 else None
        if tagged is not None:
            if tagged.promised_end is not None:
                tagged.promised_end += position
            links.append(tagged)
            continue
        if link is None or link.frame.kind != frame.kind or _is_complete(link, frame, contents):
            if link is not None and not link.offsets:
                link.frame, link.head = frame, contents[:4]  # a tag may have other channels
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
    """Raise AudioError if a tag or the last frame shows that the file is truncated."""
    held = len(link.offsets) - (link.end > end)
    if link.promised_frames == held + 1 and link.end == link.promised_end:
        link.promised_frames = held  # some writers include the frame of the tag
    if link.promised_frames is not None and held < link.promised_frames:
        size = link.frame.num_samples
        raise AudioError(
            f"{name} has been cut short: its header promises {link.promised_frames * size} "
            f"samples, but it holds {held * size}; copy or convert it again"
        )
    if link.promised_frames is not None and held > link.promised_frames:
        link.padding_samples = 0  # frames were appended after the tag was written
    if link.end > end:
        raise AudioError(
            f"{name} has been cut short: its last frame lacks {link.end - end} bytes; copy it "
            "again, or keep what is whole: ffmpeg -i FILE -c copy NEW.mp3"
        )


def _is_complete(link: MpegLink, frame: Frame, contents: bytes) -> bool:
    """True if a link has all frames that its tag declares and `frame` needs none of their bits."""
    if link.promised_frames is None or len(link.offsets) != link.promised_frames:
        return False
    side = contents[frame.side_at : frame.side_at + 2]
    reservoir = side[0] << 1 | side[1] >> 7 if frame.version == 3 else side[0]
    return reservoir == 0


def _tagged_link(frame: Frame, contents: bytes) -> MpegLink | None:
    """Empty link if a frame is a tag of Xing, LAME or Fraunhofer (VBRI), else None."""
    if contents[36:40] == b"VBRI":
        return MpegLink(
            frame=frame, head=contents[:4], promised_frames=_number(contents, 50, 4) or None
        )
    at = frame.side_at + frame.side_bytes
    if contents[at : at + 4] not in (b"Xing", b"Info"):
        at = 4 + frame.side_bytes  # writers that ignore the checksum
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


def _number(contents: bytes, at: int, size: int) -> int:
    return int.from_bytes(contents[at : at + size], "big")
