from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from auricle.audio.headers import SIZES, Sizes, magic_at, spliced

RATE = 16_000


def encoded(container: str, num_channels: int = 1) -> bytes:
    stream = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (500, num_channels))
    soundfile.write(stream, samples, RATE, format=container, subtype="PCM_16")
    return stream.getvalue()


def sizes_of(contents: bytes) -> Sizes:
    sizes = SIZES[magic_at(contents)](io.BytesIO(contents), 0, len(contents))
    assert sizes is not None
    return sizes


CONTAINERS = ["WAV", "WAVEX", "RF64", "AIFF", "SVX", "W64", "CAF", "AU", "NIST"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_sizes_are_read_and_written(container: str) -> None:
    contents = encoded(container)
    sizes = sizes_of(contents)
    assert sizes.declared == len(contents) - sizes.data_start
    assert sizes.declared in (1_000, 1_008)
    shorter = sizes.corrected(sizes.declared - 400)
    assert len(shorter) == sizes.data_start
    assert sizes_of(shorter + bytes(2_000)).declared == sizes.declared - 400
    with soundfile.SoundFile(io.BytesIO(shorter + contents[sizes.data_start :][:-400])) as file:
        assert file.frames == 300


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0x7F000008])
@pytest.mark.parametrize("magic", [b"RIFF", b"RIFX"])
def test_sizes_of_files_written_to_a_pipe_are_open(size: int, magic: bytes) -> None:
    order = ">" if magic == b"RIFX" else "<"
    head = magic + bytes(4) + b"WAVEdata" + struct.pack(order + "I", size)
    assert sizes_of(head + bytes(80)).declared is None
    assert sizes_of(head[:-4] + struct.pack(order + "I", 0x60000000) + bytes(80)).declared


def test_open_64_bit_sizes() -> None:
    rf64 = encoded("RF64")
    at = rf64.find(b"ds64") + 8
    for size in (b"\xff" * 24, bytes(24)):
        assert sizes_of(rf64[:at] + size + rf64[at + 24 :]).declared is None
    w64 = encoded("W64")
    at = w64.find(b"data\xf3") + 16
    for eight in (b"\xff" * 8, b"\xff" * 7 + b"\x7f", bytes(8)):
        assert sizes_of(w64[:at] + eight + w64[at + 8 :]).declared is None
    caf = encoded("CAF")
    at = caf.find(b"data") + 4
    assert sizes_of(caf[:at] + b"\xff" * 8 + caf[at + 8 :]).declared is None


def test_a_wav_of_more_than_32_bits_gets_an_rf64_header() -> None:
    contents = encoded("WAV")
    header = sizes_of(contents).corrected(1 << 33)
    assert header[:4] == b"RF64"
    assert header[-8:] == b"data\xff\xff\xff\xff"
    assert sizes_of(header).declared == 1 << 33


def test_compressed_sphere_files_promise_nothing() -> None:
    header = (
        "NIST_1A\n   1024\nsample_count -i 90\nsample_n_bytes -i 2\nchannel_count -i 1\n"
        "sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    )
    read = SIZES["SPHERE"]
    assert read(io.BytesIO(header.encode().ljust(1024)), 0, 1024) is None
    plain = header.replace("-s26 pcm,embedded-shorten-v2.00", "-s3 pcm").encode().ljust(1024)
    assert sizes_of(plain).declared == 180


@pytest.mark.parametrize(
    "contents",
    [b"RIFF\0\0\0\0WAVEdat", b".snd\0" * 3, b".snd\xff\xff\xff\xff" * 4, b"NIST_1A\n", b"caff" * 4],
)
def test_a_header_without_its_sizes(contents: bytes) -> None:
    assert SIZES[magic_at(contents)](io.BytesIO(contents), 0, len(contents)) is None


@pytest.mark.parametrize("contents", [b"", b"RI", b"RIFF", b"RIFF\0\0\0\0AVI ", b"words" * 9])
def test_no_container(contents: bytes) -> None:
    assert magic_at(contents) == ""


def test_pieces_are_one_file() -> None:
    source = io.BytesIO(b"0123456789")
    with spliced(source, [b"ab", (2, 5), b"", (7, 7), b"c", (8, 10)]) as file:
        assert file.read() == b"ab234c89"
        assert file.seek(-3, os.SEEK_END) == 5
        assert file.read(2) == b"c8"
        assert file.seek(1) == file.tell() == 1
        assert file.read(3) == b"b23"
        assert file.seek(100) == 100
        assert file.read() == b""
    assert not source.closed


@pytest.mark.parametrize("target", [(-5, os.SEEK_SET), (-50, os.SEEK_CUR), (-50, os.SEEK_END)])
def test_a_seek_to_before_the_start_goes_there(target: tuple[int, int]) -> None:
    with spliced(io.BytesIO(b"0123"), [(1, 4)]) as file:
        file.seek(2)
        assert file.seek(*target) == 0
        assert file.read() == b"123"


def test_every_byte_of_every_span_by_any_steps() -> None:
    contents = bytes(range(256)) * 700
    with spliced(io.BytesIO(contents), [(0, 100_000), b"\xff" * 5, (100_000, 179_200)]) as file:
        read = b"".join(iter(lambda: file.read(4_097), b""))
    assert read == contents[:100_000] + b"\xff" * 5 + contents[100_000:]
