from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.audio.containers import find_section, flac_starts
from auricle.audio.files import decode_audio, read_audio, read_header, stream_header
from auricle.errors import AudioError

RATE = 16_000
CODES = np.random.default_rng(0).integers(-9_000, 9_000, 3_000).astype("<i2")


def encoded(container: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, CODES, RATE, format=container, subtype="PCM_16")
    return stream.getvalue()


def wav(declared: int, data: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    data_chunk = b"data" + struct.pack("<I", declared) + data
    return b"RIFF" + struct.pack("<I", declared + 36) + b"WAVE" + fmt + before + data_chunk + after


def check(contents: bytes, codes: np.ndarray = CODES) -> None:
    """Are these the samples that the bytes hold?"""
    read = decode_audio(io.BytesIO(contents), "a")
    np.testing.assert_array_equal(read, codes.astype(np.float32) / 32768)
    assert stream_header(io.BytesIO(contents), "a").num_samples == len(codes)


PCM = CODES.tobytes()
LIST = b"LIST\4\0\0\0INFO"


@pytest.mark.parametrize(
    "contents",
    [
        wav(6_000, PCM),
        wav(6_000, PCM, before=b"JUNK\3\0\0\0abc\0"),
        wav(6_000, PCM, after=LIST),
        wav(6_000, PCM, after=b"LIST\xff\xff\0\0INFO"),  # cut after the samples
        wav(6_000, PCM, after=b"TAG" + b"\xff" * 125),
        wav(6_000, PCM, after=bytes(500)),
        wav(6_000, PCM, after=b"abc"),
        b"ID3\4\0\0\0\0\0\4abcd" + wav(6_000, PCM),
    ],
)
def test_what_surrounds_samples_is_none(contents: bytes, caplog: pytest.LogCaptureFixture) -> None:
    check(contents)
    assert not caplog.messages


def test_an_odd_size_is_filled_up() -> None:
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE, 1, 8)
    data = b"data" + struct.pack("<I", 301) + b"\xa0" * 301 + b"\0"
    assert len(decode_audio(io.BytesIO(b"RIFF\0\0\0\0WAVE" + fmt + data + LIST), "a")) == 301


@pytest.mark.parametrize("declared", [0, 2_000])
@pytest.mark.parametrize("after", [b"", bytes(2)])
def test_a_wav_whose_recorder_went_on_after_it_wrote_the_size(
    declared: int, after: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    codes = np.frombuffer(PCM + after, "<i2")
    check(wav(declared, PCM + after), codes)
    said = f"a: its header says {declared} bytes of samples, but {2 * len(codes)} are there"
    assert caplog.messages == [said + ": all are read"]


STALE = {  # where the size stands, how it is written, and what it counts besides samples
    "AU": (8, ">I", 0),
    "AIFF": (-6_012, ">I", 8),
    "W64": (-6_008, "<Q", 24),
    "CAF": (-6_012, ">Q", 4),
    "RF64": (28, "<Q", 0),
}


@pytest.mark.parametrize("container", STALE)
@pytest.mark.parametrize("num_bytes", [0, 2_000])
def test_stale_sizes_of_other_containers(
    container: str, num_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    contents = bytearray(encoded(container))
    at, layout, extra = STALE[container]
    at %= len(contents)
    old = struct.unpack_from(layout, contents, at)[0]
    assert old == 6_000 + extra
    struct.pack_into(layout, contents, at, num_bytes + extra)
    check(bytes(contents))
    is_open = num_bytes == 0 and container == "RF64"  # as ffmpeg leaves it in a pipe
    assert len(caplog.messages) == (0 if is_open else 1)


@pytest.mark.parametrize("container", ["W64", "CAF"])
def test_files_that_libsndfile_wrote_to_a_pipe(container: str) -> None:
    # It writes its header once before and once after all, instead of going back.
    contents = encoded(container)
    header_bytes = len(contents) - len(PCM)
    at, layout, extra = STALE[container]
    begun = bytearray(contents[:header_bytes])
    struct.pack_into(layout, begun, at % len(contents), extra)
    check(bytes(begun) * 2 + contents[header_bytes:] + contents[:header_bytes])


def test_a_wav_of_more_than_4_gib(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    num_bytes = (1 << 32) + 2 * RATE
    with path.open("wb") as file:  # a sparse file
        file.write(wav(num_bytes % (1 << 32), b""))
        file.truncate(44 + num_bytes - 6_000)
        file.seek(0, os.SEEK_END)
        file.write(PCM)
    assert read_header(path).num_samples == num_bytes // 2
    tail = read_audio(path, start_seconds=(num_bytes - 6_000) / 2 / RATE)
    np.testing.assert_array_equal(tail, CODES.astype(np.float32) / 32768)
    with path.open("ab") as file:
        file.write(LIST)
    assert read_header(path).num_samples == num_bytes // 2


def test_several_chunks_of_samples_are_refused() -> None:
    with pytest.raises(AudioError, match="holds samples in several chunks"):
        check(wav(6_000, PCM, after=b"data" + struct.pack("<I", 40) + bytes(40)))


@pytest.mark.parametrize(
    "container", ["VOC", "AVR", "SVX", "MAT4", "MAT5", "MPC2K", "SDS", "W64", "CAF", "NIST", "AU"]
)
@pytest.mark.parametrize("missing", [2, 2_000])
def test_what_a_header_promises_must_be_there(container: str, missing: int) -> None:
    contents = encoded(container)
    check(contents)
    with pytest.raises(AudioError, match=r"a has been cut short: its header promises \d+ bytes"):
        check(contents[: -missing - (container == "VOC")])


@pytest.mark.parametrize("container", ["VOC", "AVR", "MAT4", "MAT5", "MPC2K"])
def test_what_follows_is_left_out_and_said(
    container: str, caplog: pytest.LogCaptureFixture
) -> None:
    check(encoded(container) + b"\x11" * 500)
    assert "500 bytes follow after what its header says" in caplog.messages[0]


@pytest.mark.parametrize("container", ["PAF", "PVF", "IRCAM"])
def test_headers_without_a_length_are_said(
    container: str, caplog: pytest.LogCaptureFixture
) -> None:
    check(encoded(container))
    assert caplog.messages == [
        f"a: {container} headers say no length, so that a cut copy looks like a whole one"
    ]


def test_flac_files_are_found_over_the_bounds_of_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auricle.audio.containers.SEARCH_BYTES", 50)
    marker = b"fLaC\0\0\0\x22"
    for at in range(30, 120):
        contents = bytes(at) + marker + b"fLaC" + bytes(90) + b"fLaC\x80\0\0\x22"
        found = flac_starts(io.BytesIO(contents), 1, len(contents))
        assert found == [at, at + 102]


@pytest.mark.parametrize("contents", [b"words" * 9, b"RIFF", b"\xf0\x7e\0\1" + bytes(30), b"fLaC"])
def test_no_header_promises_nothing(contents: bytes) -> None:
    section = find_section(io.BytesIO(contents), 0, len(contents), "a")
    assert section.pieces == ((0, len(contents)),)
    assert section.remark == ""


@pytest.mark.parametrize("after", [b"abc", bytes(100)])
@pytest.mark.parametrize("container", ["W64", "NIST", "AU", "SVX"])
def test_what_pads_the_end_is_no_sample(
    container: str, after: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    check(encoded(container) + after)
    assert not caplog.messages


@pytest.mark.parametrize("after", [b"abc", b"junk" * 90])
def test_bytes_after_a_voc_are_no_block(after: bytes) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, CODES, RATE, format="VOC", subtype="ULAW")
    contents = stream.getvalue()
    whole = decode_audio(io.BytesIO(contents), "a")
    np.testing.assert_array_equal(decode_audio(io.BytesIO(contents + after), "a"), whole)


@pytest.mark.parametrize("num_blocks", [7, 8])
def test_padding_of_a_wav_of_gsm_is_no_block(num_blocks: int) -> None:
    spoken = np.sin(np.arange(320 * num_blocks) / 9) / 3
    stream, bare = io.BytesIO(), io.BytesIO()
    soundfile.write(stream, spoken, 8_000, format="WAV", subtype="GSM610")
    soundfile.write(bare, spoken, 8_000, format="W64", subtype="GSM610")
    bare.seek(0)
    expected, _ = soundfile.read(bare, dtype="float32")
    for after in (b"", LIST):
        contents = io.BytesIO(stream.getvalue() + after)
        read = decode_audio(contents, "a", sample_rate=8_000)
        np.testing.assert_array_equal(read, expected[: 320 * num_blocks])
        assert stream_header(contents, "a").num_samples == 320 * num_blocks


def voc(*blocks: tuple[int, bytes]) -> bytes:
    head = b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x0114, 0x111F)
    return head + b"".join(
        bytes([kind]) + len(contents).to_bytes(3, "little") + contents for kind, contents in blocks
    )


VOC_FORMAT = struct.pack("<IBBHI", RATE, 16, 1, 4, 0)


@pytest.mark.parametrize("end", [b"\0", b""])
@pytest.mark.parametrize(
    "blocks",
    [
        [(9, VOC_FORMAT + PCM)],
        [(9, VOC_FORMAT + PCM[:1_000]), (2, PCM[1_000:4_000]), (2, PCM[4_000:])],  # as by ffmpeg
        [(9, VOC_FORMAT + PCM[:1_000]), (5, b"words\0"), (2, PCM[1_000:])],
    ],
)
def test_blocks_of_a_voc_are_one_recording(blocks: list[tuple[int, bytes]], end: bytes) -> None:
    check(voc(*blocks) + end)
    with pytest.raises(AudioError, match="cut short"):
        check(voc(*blocks)[:-2])


def test_a_voc_of_sox_whose_size_is_8_too_small(caplog: pytest.LogCaptureFixture) -> None:
    contents = bytearray(voc((9, VOC_FORMAT + PCM)) + b"\0")
    contents[27:30] = (len(PCM) + 4).to_bytes(3, "little")
    check(bytes(contents))
    assert not caplog.messages


def test_a_voc_of_several_recordings_is_refused() -> None:
    with pytest.raises(AudioError, match="a holds samples in several blocks"):
        check(voc((9, VOC_FORMAT + PCM), (3, b"\x10\0\x80"), (9, VOC_FORMAT + PCM)) + b"\0")
