"""Container sections: declared and actual sizes of the samples in a file.

libsndfile silently reads the smaller of the two. A truncated copy would pass for a shorter
recording, as would a file whose sizes were never written, were written before it grew, or overflow
32 bits. Sizes are therefore read from the header here and compared with the file. If there are more
samples than declared, libsndfile is given a header with corrected sizes.
"""

from __future__ import annotations

import dataclasses
import os
import re
import struct
from typing import BinaryIO

from auricle.audio.headers import SIZES, Piece, Sizes, magic_at
from auricle.errors import AudioError

MIN_REST = 8
"""Fewer bytes after the samples than a chunk header are padding."""

MIN_ZEROS_SAID = 1 << 16
"""Fewer zeros at the end of a file fill a disk block and are not reported."""

KNOWN_CHUNKS = frozenset(
    {b"LIST", b"INFO", b"bext", b"iXML", b"axml", b"_PMX", b"id3 ", b"ID3 ", b"cue "}
    | {b"smpl", b"inst", b"fact", b"PEAK", b"PAD ", b"JUNK", b"junk", b"FLLR", b"afsp"}
    | {b"levl", b"plst", b"MARK", b"COMT", b"NAME", b"AUTH", b"(c) ", b"ANNO", b"INST"}
    | {b"MIDI", b"APPL", b"FVER", b"CHAN"}
)
"""Chunks that may follow the samples, even truncated."""

FLAC_STARTS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")
"""Start of a FLAC file: the marker and the header of the STREAMINFO block."""

SEARCH_BYTES = 1 << 22

LENGTHLESS = {
    b" paf": "PAF",
    b"fap ": "PAF",
    b"PVF1": "PVF",
    **{bytes([0x64, 0xA3, machine, 0]): "IRCAM" for machine in (1, 2, 3, 4)},
    **{bytes([0, machine, 0xA3, 0x64]): "IRCAM" for machine in (1, 2, 3, 4)},
}
"""Containers whose headers declare no length."""

VOC_MORE, VOC_NEW = 2, 9
"""Types of VOC blocks: continued samples, and samples of any width (the highest type)."""

VOC_TEXTS = (0, 4, 5)
"""Types of VOC blocks without samples: terminator, markers and text."""

MAT5_MATRIX = 14
"""Type of a MATLAB 5 element that contains others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContainerSection:
    """One recording of a file, as given to libsndfile.

    Attributes:
        pieces: Bytes and spans of the file.
        end: Start of the next recording, or end of the file.
        remark: Note to log once the section has been read, "" for none.
    """

    pieces: tuple[Piece, ...]
    end: int
    remark: str = ""


def find_section(stream: BinaryIO, start: int, end: int, name: str) -> ContainerSection:
    """Section that starts at `start`, of a container other than Ogg and MPEG audio.

    Raises:
        AudioError: The header declares more than the file has, or samples are in two chunks.
    """
    while True:
        stream.seek(start)
        head = stream.read(64)
        if magic_at(head) not in SIZES:
            return _fixed(stream, start, end, head, name)
        sizes = SIZES[magic_at(head)](stream, start, end)
        if sizes is None:
            return ContainerSection(pieces=((start, end),), end=end)
        stream.seek(sizes.data_start)
        if sizes.declared or stream.read(12)[:4] != head[:4] or sizes.data_start == start:
            break
        # libsndfile writes its header twice, and again at the end of a pipe.
        start = sizes.data_start
    held = end - sizes.data_start
    if sizes.declared is None:
        return _corrected(sizes, start, end, _size_before_headers(stream, start, end, sizes))
    if sizes.declared > held:
        raise AudioError(
            f"{name} has been cut short: its header promises {sizes.declared - held} bytes more "
            "than it holds; copy or convert it again"
        )
    tail = sizes.data_start + sizes.declared
    stream.seek(tail)
    if not magic_at(stream.read(12)):
        tail += (end - tail) >> 32 << 32  # the size is modulo 2^32
    rest, zeros = _rest(stream, tail, end, sizes, name)
    if rest is None:
        return _corrected(sizes, start, end, _size_before_headers(stream, start, end, sizes))
    remark = "" if zeros < MIN_ZEROS_SAID else f"{zeros} bytes of zeros at its end are left out"
    size = tail - sizes.data_start
    if size == sizes.declared and sizes.is_padded:
        samples = (sizes.data_start, tail)
        return ContainerSection(pieces=(sizes.corrected(size), samples), end=rest, remark=remark)
    if size == sizes.declared:
        kept = tail if sizes.is_ignored else rest
        return ContainerSection(pieces=((start, kept),), end=rest, remark=remark)
    return _corrected(sizes, start, rest, size)


def _size_before_headers(stream: BinaryIO, start: int, end: int, sizes: Sizes) -> int:
    """Bytes of samples before the headers that libsndfile appends when it writes to a pipe."""
    stream.seek(start)
    magic = stream.read(12)
    header_bytes = sizes.data_start - start
    while end - header_bytes > sizes.data_start:
        stream.seek(end - header_bytes)
        if stream.read(12)[: len(magic) - 4] != magic[:-4] or magic[:4] == b".snd":
            break
        end -= header_bytes
    return end - sizes.data_start


def _corrected(sizes: Sizes, start: int, end: int, size: int | None = None) -> ContainerSection:
    size = end - sizes.data_start if size is None else size
    remark = ""
    if sizes.declared is not None:
        remark = (
            f"its header says {sizes.declared} bytes of samples, but {size} are there: all are read"
        )
    return ContainerSection(
        pieces=(sizes.corrected(size), (sizes.data_start, sizes.data_start + size)),
        end=end,
        remark=remark,
    )


def _rest(stream: BinaryIO, tail: int, end: int, sizes: Sizes, name: str) -> tuple[int | None, int]:
    """End of the chunks after the samples, and the number of zeros at the end of the file.

    The end is None if more samples follow after the declared ones.
    """
    position = tail
    unit = sizes.alignment
    while end - position >= MIN_REST:
        stream.seek(position)
        head = stream.read(24)
        if magic_at(head):
            return position, 0
        chunk_name, size = sizes.chunk(head) if sizes.chunk is not None else (b"", 0)
        fits = 0 < size <= end - position + 1 and _is_name(chunk_name)
        if chunk_name in sizes.data_names and fits:
            raise AudioError(
                f"{name} holds samples in several chunks, of which only the first can be read: "
                "convert it again"
            )
        if fits or chunk_name in KNOWN_CHUNKS:
            position += size + -size % unit
        elif position == tail and tail % 2:
            position += 1  # the pad byte of an odd size
        elif head[:3] in (b"TAG", b"ID3") or head[:8] == b"APETAGEX":
            return end, 0
        else:
            return (end, end - position) if _is_zero(stream, position, end) else (None, 0)
    return end, 0


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _is_zero(stream: BinaryIO, start: int, end: int) -> bool:
    stream.seek(start)
    while start < end:
        contents = stream.read(min(1 << 20, end - start))
        if not contents or any(contents):
            return not contents
        start += len(contents)
    return True


def _fixed(stream: BinaryIO, start: int, end: int, head: bytes, name: str) -> ContainerSection:
    """Section of a container with one header, whose declared size must be present."""
    is_voc = head.startswith(b"Creative Voice File\x1a")
    if is_voc and (section := _voc(stream, start, end, name)) is not None:
        return section
    promised = _promised_end(stream, start, end, head)
    if promised is not None and promised > end:
        raise AudioError(
            f"{name} has been cut short: its header promises {promised - end} bytes more than it "
            "holds; copy or convert it again"
        )
    if promised is None:
        kind = _lengthless_kind(head)
        remark = f"{kind} headers say no length, so that a cut copy looks like a whole one"
        return ContainerSection(pieces=((start, end),), end=end, remark=remark if kind else "")
    remark = ""
    if end - promised >= MIN_REST and not _is_zero(stream, promised, end):
        remark = (
            f"{end - promised} bytes follow after what its header says, and are left out: convert "
            "it again if they are samples"
        )
    return ContainerSection(pieces=((start, promised),), end=end, remark=remark)


def _lengthless_kind(head: bytes) -> str:
    """Name of the container if its header declares no length; else ""."""
    return "XI" if _is_xi(head) else LENGTHLESS.get(head[:4], "")


def _promised_end(stream: BinaryIO, start: int, end: int, head: bytes) -> int | None:
    """End of a file by its header, None if it declares none."""
    if head.startswith(b"Creative Voice File\x1a"):
        blocks = _voc_blocks(stream, start, end)
        return blocks[-1][2] if blocks else end
    if head.startswith(b"2BIT") and len(head) >= 30:
        stereo, bits = struct.unpack(">HH", head[12:16])
        width = int(bits) // 8 * (2 if stereo else 1)
        return start + 128 + int.from_bytes(head[26:30], "big") * width
    if head.startswith(b"ALawSoundFile**\0"):
        return start + 32 + int.from_bytes(head[18:22], "big")
    if head.startswith(b"\xf0\x7e") and head[3:4] == b"\x01" and head[20:21] == b"\xf7":
        words = head[10] | head[11] << 7 | head[12] << 14
        of_packet = 120 // max(1, -(-head[6] // 7))
        return start + 21 + 127 * -(-words // of_packet)
    if head[:2] == b"\x01\x04" and len(head) > 42 and head[21] < 2:
        return start + 42 + int.from_bytes(head[26:30], "little") * 2 * (head[21] + 1)
    if head.startswith(b"MATLAB 5.0 MAT-file"):
        return _mat5_end(stream, start, end)
    if head[20:31] == b"samplerate\0":
        return _mat4_end(stream, start)
    if _is_xi(head):
        return _xi_end(stream, start)
    return None


def _is_xi(head: bytes) -> bool:
    return head.startswith(b"Extended Instrument: ")


def _xi_end(stream: BinaryIO, start: int) -> int | None:
    stream.seek(start + 296)
    num_samples = int.from_bytes(stream.read(2), "little")
    headers = stream.read(40 * num_samples)
    size = sum(int.from_bytes(headers[at : at + 4], "little") for at in range(0, len(headers), 40))
    return start + 298 + len(headers) + size if size else None


def _mat4_end(stream: BinaryIO, start: int) -> int | None:
    position = start
    for _ in range(2):  # the rate, then the samples
        stream.seek(position)
        head = stream.read(20)
        if len(head) < 20:
            return None
        # The thousands digit of the type is the byte order: from 1000 big-endian.
        order = "<" if int.from_bytes(head[:4], "little") < 1000 else ">"
        kind, rows, columns, _, name_bytes = struct.unpack(order + "5I", head)
        width = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}.get(kind // 10 % 10)
        if width is None:
            return None
        position += 20 + name_bytes + rows * columns * width
    return position


def _voc_blocks(stream: BinaryIO, start: int, end: int) -> list[tuple[int, int, int]]:
    """Type, start and end of the contents of each block of a VOC file."""
    stream.seek(start)
    position = start + int.from_bytes(stream.read(22)[20:], "little")
    blocks: list[tuple[int, int, int]] = []
    while position < end:
        stream.seek(position)
        head = stream.read(4)
        if blocks and blocks[-1][0] == VOC_NEW and position + 9 == end:
            stream.seek(end - 1)
            if stream.read(1) == b"\0":  # sox declares 8 bytes too few
                return [(VOC_NEW, blocks[-1][1], end - 1), (0, end, end)]
        if head[0] == 0:  # the terminator, which some writers omit
            return [*blocks, (0, position + 1, position + 1)]
        if head[0] > VOC_NEW:
            break
        position += 4 + int.from_bytes(head[1:], "little")
        blocks.append((head[0], position - int.from_bytes(head[1:], "little"), position))
    return blocks


def _voc(stream: BinaryIO, start: int, end: int, name: str) -> ContainerSection | None:
    """Section with the sample blocks of a VOC file joined, as libsndfile reads only the first one.

    None if there is one sample block.

    Raises:
        AudioError: Other blocks lie between them, or there are too many samples for one block.
    """
    blocks = [block for block in _voc_blocks(stream, start, end) if block[0] not in VOC_TEXTS]
    first = next((at for at, (kind, *_) in enumerate(blocks) if kind in (1, VOC_NEW)), None)
    further = blocks[first + 1 :] if first is not None else []
    if first is None or not further or further[-1][2] > end:
        return None
    size = sum(stop - begin for _, begin, stop in blocks[first:])
    if any(kind != VOC_MORE for kind, *_ in further) or size >= 1 << 24:
        raise AudioError(
            f"{name} holds samples in several blocks, which cannot be read as one: convert it: "
            "sox FILE NEW.wav"
        )
    stream.seek(start)
    header = stream.read(blocks[first][1] - start)[:-3] + size.to_bytes(3, "little")
    spans = [(begin, stop) for _, begin, stop in blocks[first:]]
    return ContainerSection(pieces=(header, *spans, b"\0"), end=end)


def _mat5_end(stream: BinaryIO, start: int, end: int) -> int | None:
    """End of the last element of the last matrix, as the size of the matrix may be too large."""
    stream.seek(start + 126)
    order = "<" if stream.read(2) == b"IM" else ">"

    def tag(position: int) -> tuple[int, int]:
        stream.seek(position)
        kind, size = struct.unpack(order + "II", stream.read(8))
        return kind, 0 if kind >> 16 else size  # small elements have their data in the tag

    position, found = start + 128, None
    while position + 8 <= end:
        kind, size = tag(position)
        if kind != MAT5_MATRIX:
            break
        inner = position + 8
        for _ in range(4):  # flags, shape, name, values
            if inner + 8 > end:
                break
            found = inner + 8 + tag(inner)[1]
            inner = found + (start - found) % 8
        position += 8 + size
    return found


def flac_starts(stream: BinaryIO, start: int, end: int) -> list[int]:
    """Start positions of further FLAC files after the first."""
    found: list[int] = []
    while start < end:
        stream.seek(start)
        contents = stream.read(min(SEARCH_BYTES, end - start))
        for marker in FLAC_STARTS:
            found += [start + match.start() for match in re.finditer(re.escape(marker), contents)]
        if len(contents) < SEARCH_BYTES:
            break
        start += len(contents) - len(FLAC_STARTS[0]) + 1
    return sorted(found)


def file_bytes(stream: BinaryIO) -> int:
    """Size of a seekable file in bytes."""
    return stream.seek(0, os.SEEK_END)
