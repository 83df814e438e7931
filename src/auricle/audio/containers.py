"""What a file's own header says of its length, and what the file holds.

libsndfile takes the smaller of the two without a word, so that a broken copy passes for a shorter
recording, and so does a recording whose sizes were never written, are from before it went on, or
do not fit into 32 bits. Sizes are read here from the header itself and compared with the file.
Where more samples are there than it says, libsndfile is given the header with the sizes corrected.
"""

from __future__ import annotations

import dataclasses
import os
import re
import struct
from collections.abc import Callable
from typing import BinaryIO

from auricle.audio.splicing import Piece
from auricle.errors import AudioError

OPEN_SIZES = (0x7F00_0000, 1 << 31, 1 << 32)
OPEN_MARGIN = 1 << 16
"""32-bit sizes near these stand for "unknown" in files that were written to a pipe: sox's AIFF
(0x7F000000 and the header), sox's WAV (0x7FFFF000), arecord (2^31), ffmpeg (2^32 - 1)."""

LONG_OPEN = 1 << 62
"""64-bit sizes from here up are open."""

SHORT_LIMIT = 0xFFFF_0000
"""Sizes from here up go into an RF64 header."""

MIN_REST = 8
"""Fewer bytes than a chunk has after the samples are padding."""

MIN_ZEROS_SAID = 1 << 16
"""Fewer zeros at the end fill up a block of a disk."""

KNOWN_CHUNKS = frozenset(
    b"LIST|LIST|INFO|bext|iXML|axml|_PMX|id3 |ID3 |cue |smpl|inst|fact|PEAK|PAD |JUNK|junk|FLLR".split(b"|")
    + b"afsp|levl|plst|labl|note|ltxt|MARK|COMT|NAME|AUTH|(c) |ANNO|INST|MIDI|APPL|FVER|CHAN".split(b"|")
)
"""What may follow the samples even where it has been cut itself."""

SPHERE_HEADER_BYTES = 1024
"""The usual, and by far the most common, size of a NIST SPHERE header."""

FLAC_STARTS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")
"""What a FLAC file begins with: a marker and the header of the block STREAMINFO."""

SEARCH_BYTES = 1 << 22

W64_GUID = bytes.fromhex("2e91cf11a5d628db04c10000")
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
"""The rest of the 16 bytes that name a chunk of a W64, of "riff" and of all others."""

LENGTHLESS = {
    b" paf": "PAF",
    b"fap ": "PAF",
    b"PVF1": "PVF",
    **{bytes([0x64, 0xA3, machine, 0]): "IRCAM" for machine in (1, 2, 3, 4)},
    **{bytes([0, machine, 0xA3, 0x64]): "IRCAM" for machine in (1, 2, 3, 4)},
}
"""Containers whose headers say nothing of a length."""

MAT5_SLACK = 8
"""libsndfile writes sizes that count one tag too many."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """One recording of a file: what libsndfile is to be given of it.

    Attributes:
        pieces: Bytes and spans of the file.
        end: Where the next recording begins, or the file ends.
        remark: What is said of it once it has been read, "" for nothing.
    """

    pieces: tuple[Piece, ...]
    end: int
    remark: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a header says.

    Attributes:
        data_start: Where the samples begin.
        declared: Their bytes, None where that is left open.
        corrected: The header, up to the samples, with another size in it.
        chunk: Reads the name and the whole size of a chunk; None where no chunks may follow.
        alignment: Of chunks, in bytes.
        data_names: Chunks of samples.
    """

    data_start: int
    declared: int | None
    corrected: Callable[[int], bytes]
    chunk: Callable[[bytes], tuple[bytes, int]] | None = None
    alignment: int = 2
    data_names: tuple[bytes, ...] = ()


def magic_at(contents: bytes) -> str:
    """Which container begins with these 12 bytes, "" where that is none whose sizes are read."""
    four = contents[:4]
    if four in (b"RIFF", b"RIFX", b"RF64", b"BW64") and contents[8:12] == b"WAVE":
        return "RIFF"
    if four == b"FORM" and contents[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return "FORM"
    if four == b"riff" and contents[4:12] == W64_GUID[:8]:
        return "W64"
    names = {b".snd": "AU", b"NIST": "SPHERE", b"caff": "CAF", b"fLaC": "FLAC", b"OggS": "OGG"}
    return names.get(four, "")


def find_section(stream: BinaryIO, start: int, end: int, name: str) -> Section:
    """The recording that begins at `start`, of a container that is neither Ogg nor MPEG audio.

    Raises:
        AudioError: Its header promises more than the file holds, or holds samples in two chunks.
    """
    while True:
        stream.seek(start)
        head = stream.read(64)
        if magic_at(head) not in SIZES:
            return _fixed(stream, start, end, head, name)
        sizes = SIZES[magic_at(head)](stream, start, end)
        if sizes is None:
            return Section(pieces=((start, end),), end=end)
        stream.seek(sizes.data_start)
        if sizes.declared or stream.read(12)[:4] != head[:4] or sizes.data_start == start:
            break
        # libsndfile writes its header twice, and once more at the end, where it cannot go back.
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
        tail += (end - tail) >> 32 << 32  # a size of 32 bits in a file that has outgrown them
    rest, zeros = _rest(stream, tail, end, sizes, name)
    if rest is None:
        return _corrected(sizes, start, end, _size_before_headers(stream, start, end, sizes))
    remark = "" if zeros < MIN_ZEROS_SAID else f"{zeros} bytes of zeros at its end are left out"
    size = tail - sizes.data_start
    if size == sizes.declared:
        return Section(pieces=((start, rest),), end=rest, remark=remark)
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


def _corrected(sizes: Sizes, start: int, end: int, size: int | None = None) -> Section:
    size = end - sizes.data_start if size is None else size
    remark = ""
    if sizes.declared is not None:
        remark = (
            f"its header says {sizes.declared} bytes of samples, but {size} are there: all are read"
        )
    return Section(
        pieces=(sizes.corrected(size), (sizes.data_start, sizes.data_start + size)),
        end=end,
        remark=remark,
    )


def _rest(
    stream: BinaryIO, tail: int, end: int, sizes: Sizes, name: str
) -> tuple[int | None, int]:
    """Where what belongs to a recording ends, None where more samples follow its declared ones;
    and how many zeros there are at the end."""
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
            position += 1  # what fills up an odd size
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


def _is_open(size: int) -> bool:
    return any(abs(size - marker) <= OPEN_MARGIN for marker in OPEN_SIZES)


def _riff_sizes(stream: BinaryIO, start: int, end: int) -> Sizes | None:
    """RIFF and RF64 (EBU Tech 3306), and AIFF and SVX, which differ in byte order and names."""
    stream.seek(start)
    magic = stream.read(4)
    order = ">" if magic in (b"RIFX", b"FORM") else "<"
    names = (b"SSND", b"BODY") if magic == b"FORM" else (b"data",)

    def chunk(head: bytes) -> tuple[bytes, int]:
        name, size = struct.unpack(order + "4sI", head[:8])
        return name, size + 8

    position, long_at, long_size = start + 12, 0, 0
    while position + 8 <= end:
        stream.seek(position)
        name, size = chunk(stream.read(8))
        if name == b"ds64":  # RIFF size, data size, both 64 bits
            sizes = stream.read(16)
            long_at = position + 8
            long_size = struct.unpack("<QQ", sizes)[1] if len(sizes) == 16 else 0
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
    stream.seek(start)
    header = stream.read(offset)

    def corrected(size: int) -> bytes:
        return header[:8] + struct.pack(">I", min(size, 0xFFFF_FFFF)) + header[12:]

    return Sizes(
        data_start=start + offset, declared=None if _is_open(size) else size, corrected=corrected
    )


def _sphere_sizes(stream: BinaryIO, start: int, end: int) -> Sizes | None:
    stream.seek(start)
    text = stream.read(SPHERE_HEADER_BYTES)
    lines = text.split(b"\n")
    fields = {words[0]: words[2] for words in map(bytes.split, lines) if len(words) == 3}
    if fields.get(b"sample_coding", b"pcm") not in (b"pcm", b"ulaw", b"alaw", b"mu-law"):
        return None  # compressed: the size does not follow from the number of samples
    try:
        header_bytes = int(lines[1])
        count, width, channels = (
            int(fields[key]) for key in (b"sample_count", b"sample_n_bytes", b"channel_count")
        )
    except (IndexError, KeyError, ValueError):
        return None
    stream.seek(start)
    header = stream.read(header_bytes)

    def corrected(size: int) -> bytes:
        new = b"sample_count -i %d" % (size // (width * channels))
        return re.sub(rb"sample_count -i +\d+", new, header)[:header_bytes].ljust(header_bytes)

    return Sizes(
        data_start=start + header_bytes, declared=count * width * channels, corrected=corrected
    )


SIZES: dict[str, Callable[[BinaryIO, int, int], Sizes | None]] = {
    "RIFF": _riff_sizes,
    "FORM": _riff_sizes,
    "W64": _w64_sizes,
    "CAF": _caf_sizes,
    "AU": _au_sizes,
    "SPHERE": _sphere_sizes,
}


def _fixed(stream: BinaryIO, start: int, end: int, head: bytes, name: str) -> Section:
    """Containers of one header and samples: what they promise must be there."""
    promised = _promised_end(stream, start, end, head)
    if promised is not None and promised > end:
        raise AudioError(
            f"{name} has been cut short: its header promises {promised - end} bytes more than it "
            "holds; copy or convert it again"
        )
    remark = ""
    if promised is not None and end - promised >= MIN_REST and not _is_zero(stream, promised, end):
        remark = (
            f"{end - promised} bytes follow after what its header says, and are left out: convert "
            "it again if they are samples"
        )
    if kind := LENGTHLESS.get(head[:4]) or ("XI" if promised is None and _is_xi(head) else ""):
        remark = f"{kind} headers say no length, so that a cut copy looks like a whole one"
    return Section(pieces=((start, end),), end=end, remark=remark)


def _promised_end(stream: BinaryIO, start: int, end: int, head: bytes) -> int | None:
    """Where a file should end by its header, None where it promises nothing."""
    if head.startswith(b"Creative Voice File\x1a"):
        return _voc_end(stream, start, end, head)
    if head.startswith(b"2BIT") and len(head) >= 30:
        stereo, bits = struct.unpack(">HH", head[12:16])
        return start + 128 + int.from_bytes(head[26:30], "big") * (bits // 8) * (2 if stereo else 1)
    if head.startswith(b"ALawSoundFile**\0"):
        return start + 32 + int.from_bytes(head[18:22], "big")
    if head.startswith(b"\xf0\x7e") and head[3:4] == b"\x01" and head[20:21] == b"\xf7":
        words = head[10] | head[11] << 7 | head[12] << 14
        of_packet = 120 // -(-head[6] // 7)
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
        # Of the type's digits the first, 1 for big-endian, is read in the wrong order where it is 0.
        order = "<" if int.from_bytes(head[:4], "little") < 1000 else ">"
        kind, rows, columns, _, name_bytes = struct.unpack(order + "5I", head)
        width = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}.get(kind // 10 % 10)
        if width is None:
            return None
        position += 20 + name_bytes + rows * columns * width
    return position


def _voc_end(stream: BinaryIO, start: int, end: int, head: bytes) -> int | None:
    position = start + int.from_bytes(head[20:22], "little")
    while position < end:
        stream.seek(position)
        block = stream.read(4)
        if block[0] == 0:  # the last one, which not every writer writes
            return position + 1
        position += 4 + int.from_bytes(block[1:4], "little")
    return position


def _mat5_end(stream: BinaryIO, start: int, end: int) -> int | None:
    stream.seek(start + 126)
    order = "<" if stream.read(2) == b"IM" else ">"
    position = start + 128
    while position + 8 <= end:
        stream.seek(position)
        kind, size = struct.unpack(order + "II", stream.read(8))
        if kind != 14 and kind != 15:
            return None
        position += 8 + size
    return position if position <= end else max(end, position - MAT5_SLACK)


def flac_starts(stream: BinaryIO, start: int, end: int) -> list[int]:
    """Where FLAC files begin that follow another one."""
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
    """Size of a seekable file."""
    return stream.seek(0, os.SEEK_END)
