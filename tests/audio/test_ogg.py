from __future__ import annotations

import io
import logging

import numpy as np
import pytest
import soundfile

from auricle.audio.files import decode_audio
from auricle.audio.ogg import MAX_PAGE_BYTES, _checksum, _opus_samples, find_links, is_chained
from auricle.errors import AudioError

RATE = 16_000


@pytest.fixture(scope="module")
def vorbis() -> bytes:
    stream = io.BytesIO()
    samples = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
    soundfile.write(stream, samples, RATE, format="OGG", subtype="VORBIS")
    return stream.getvalue()


def pages(contents: bytes) -> list[int]:
    """Where the pages begin."""
    starts, position = [], 0
    while position < len(contents):
        starts.append(position)
        segments = contents[position + 27 : position + 27 + contents[position + 26]]
        position += 27 + len(segments) + sum(segments)
    return starts


def links(contents: bytes) -> list[tuple[int, int]]:
    found = find_links(io.BytesIO(contents), 0, len(contents), "a")
    return [(link.start, link.end) for link in found]


def test_links_of_a_chain_even_of_one_number(vorbis: bytes) -> None:
    size = len(vorbis)
    assert links(vorbis) == [(0, size)]
    assert links(vorbis + vorbis) == [(0, size), (size, 2 * size)]
    other = find_links(io.BytesIO(vorbis), 0, size, "a")[0]
    assert other.codecs == ["Vorbis"]
    assert other.has_last_page
    assert not is_chained(io.BytesIO(vorbis), 0, size)
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(RATE), RATE, format="OGG", subtype="OPUS")
    assert is_chained(io.BytesIO(vorbis + stream.getvalue()), 0, size + len(stream.getvalue()))


def test_what_the_last_two_pages_hold(vorbis: bytes) -> None:
    starts = pages(vorbis)
    granules = [int.from_bytes(vorbis[start + 6 : start + 14], "little") for start in starts]
    link = find_links(io.BytesIO(vorbis), 0, len(vorbis), "a")[0]
    assert link.tail_samples == granules[-1] - granules[-3]
    assert len(vorbis) - starts[-3] < 3 * MAX_PAGE_BYTES


def test_a_file_that_was_cut_within_a_page_lost_one_or_is_damaged(vorbis: bytes) -> None:
    starts = pages(vorbis)
    for end in (starts[4] + 5, starts[4] + 27, starts[5] - 1):
        with pytest.raises(AudioError, match=r"a has been cut short: the page at byte"):
            links(vorbis[:end])
    with pytest.raises(AudioError, match=r"a is damaged: before byte \d+, page 5 follows page 3"):
        links(vorbis[: starts[4]] + vorbis[starts[5] :])
    flipped = bytearray(vorbis)
    flipped[starts[4] + 200] ^= 1
    with pytest.raises(AudioError, match=f"a is damaged: the page at byte {starts[4]} is not"):
        links(bytes(flipped))
    with pytest.raises(AudioError, match="begins within a stream"):
        links(vorbis[starts[1] :])
    for after in (bytes(100), b"TAG" + bytes(125)):
        assert links(vorbis + after) == [(0, len(vorbis))]


def test_a_file_cut_between_two_pages_is_said(
    vorbis: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    end = pages(vorbis)[-1]
    whole = decode_audio(io.BytesIO(vorbis), "a")
    assert not caplog.messages
    cut = decode_audio(io.BytesIO(vorbis[:end]), "a")
    np.testing.assert_array_equal(cut, whole[: len(cut)])
    assert caplog.messages == [
        "a: no page says that it is the last one, so that it may have been cut short"
    ]


def test_opus_whose_pages_begin_late_and_overlap() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 5 * RATE)
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="OGG", subtype="OPUS")
    contents = bytearray(stream.getvalue())
    starts = pages(bytes(contents))
    granules = [int.from_bytes(contents[at + 6 : at + 14], "little") for at in starts]
    first = next(place for place, granule in enumerate(granules) if granule)
    assert len(starts) > first + 2
    begin, end = starts[first], starts[first + 1]
    contents[begin + 6 : begin + 14] = (granules[first] + 384).to_bytes(8, "little")
    contents[begin + 22 : begin + 26] = bytes(4)
    checksum = _checksum(bytes(contents[begin:end]))
    contents[begin + 22 : begin + 26] = checksum.to_bytes(4, "little")
    read = decode_audio(io.BytesIO(contents), "a")
    assert len(read) == len(samples)
    np.testing.assert_array_equal(read, decode_audio(stream, "a"))


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (bytes([0 << 3]), 480),  # 10 ms
        (bytes([11 << 3 | 1]), 2 * 2880),
        (bytes([13 << 3 | 2]), 2 * 960),
        (bytes([16 << 3 | 3, 0x80 | 6]), 6 * 120),
        (bytes([31 << 3]), 960),
        (b"", 0),
    ],
)
def test_samples_of_opus_packets(packet: bytes, samples: int) -> None:
    assert _opus_samples(packet) == samples
