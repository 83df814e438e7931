from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.audio.containers import OGG_MAX_PAGE_BYTES, missing_bytes
from auricle.audio.files import read_audio


def wav(declared: int, held: int, before: bytes = b"", magic: bytes = b"RIFF") -> bytes:
    order = ">" if magic == b"RIFX" else "<"
    fmt = b"fmt " + struct.pack(order + "IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    data = b"data" + struct.pack(order + "I", declared) + bytes(held)
    return magic + bytes(4) + b"WAVE" + fmt + before + data


def missing(contents: bytes) -> int:
    stream = io.BytesIO(contents)
    num_bytes = missing_bytes(stream)
    assert stream.tell() == 0
    return num_bytes


@pytest.mark.parametrize("magic", [b"RIFF", b"RIFX"])
def test_riff(magic: bytes) -> None:
    assert missing(wav(100, 100, magic=magic)) == 0
    assert missing(wav(100, 100, magic=magic) + b"LIST") == 0
    assert missing(wav(100, 98, magic=magic)) == 2
    assert missing(wav(100, 0, magic=magic)) == 100
    odd_chunk = b"LIST" + struct.pack(">I" if magic == b"RIFX" else "<I", 3) + b"abc\0"
    assert missing(wav(100, 90, before=odd_chunk, magic=magic)) == 10


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000])
def test_streamed_wav_promises_nothing(tmp_path: Path, size: int) -> None:
    path = tmp_path / "streamed.wav"
    path.write_bytes(wav(size, 400))
    assert missing(path.read_bytes()) == 0
    assert len(read_audio(path)) == 200


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
def test_rf64_takes_the_long_size(magic: bytes) -> None:
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, 100, 50, 0)
    assert missing(wav(0xFFFFFFFF, 100, before=ds64, magic=magic)) == 0
    assert missing(wav(0xFFFFFFFF, 70, before=ds64, magic=magic)) == 30


@pytest.mark.parametrize("container", ["AIFF", "AU", "NIST"])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_big_endian_and_sphere_files(container: str, num_channels: int) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((500, num_channels)), 16_000, format=container)
    contents = stream.getvalue()
    assert missing(contents) == 0
    assert missing(contents[:-7]) == 7


def test_open_and_compressed_sizes_promise_nothing() -> None:
    assert missing(b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 3, 16_000, 1) + bytes(9)) == 0
    header = (
        "NIST_1A\n   1024\nsample_count -i 90\nsample_n_bytes -i 2\nchannel_count -i 1\n"
        "sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    )
    assert missing(header.encode().ljust(1024)) == 0
    plain = header.replace("-s26 pcm,embedded-shorten-v2.00", "-s3 pcm")
    assert missing(plain.encode().ljust(1024)) == 180


def ogg_page(segments: bytes) -> bytes:
    return b"OggS\0" + bytes(21) + bytes([len(segments)]) + segments + b"x" * sum(segments)


def test_ogg() -> None:
    whole = ogg_page(b"\x05") + ogg_page(bytes([255] * 254 + [7]))
    assert len(ogg_page(b"\xff" * 255)) == OGG_MAX_PAGE_BYTES
    assert missing(whole) == 0
    assert missing(whole + b"junk") == 0
    assert missing(ogg_page(b"\xff" * 255) + whole[:-1]) == 1
    assert missing(whole[:-1]) == 1
    assert missing(whole[: 33 + 27 + 10]) == 245 + 10 * 255
    assert missing(whole[: 33 + 20]) == 7


@pytest.mark.parametrize(
    "contents",
    [b"", b"RI", b"RIFF", b"RIFF\0\0\0\0WAVEdat", b".snd\0", b"NIST_1A\n", b"OggS", b"words" * 9],
)
def test_no_header_promises_nothing(contents: bytes) -> None:
    assert missing(contents) == 0
