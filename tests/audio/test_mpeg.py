from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
import soundfile

from auricle.audio.files import decode_audio, stream_header
from auricle.audio.mpeg import find_links
from auricle.audio.mpeg_frames import audio_start, is_mpeg, parse_header
from auricle.errors import AudioError

CASES = [(rate, mode) for rate in (8_000, 16_000, 44_100) for mode in ("VARIABLE", "CONSTANT")]
LAME_DELAY = 576 + 529


@cache
def speech(rate: int, num_channels: int = 1, seconds: int = 4) -> np.ndarray:
    """Noise, then a tone, then silence: frames of all sizes, the largest first."""
    times = np.arange(seconds * rate) / rate
    noise = np.random.default_rng(0).normal(0, 0.1, len(times))
    one = np.where(times < 1.5, noise, np.where(times < 3, 0.3 * np.sin(2000 * times), 0))
    return np.stack([one, np.roll(one, 40)][:num_channels], 1)


@cache
def mp3(rate: int, mode: str, num_channels: int = 1) -> bytes:
    stream = io.BytesIO()
    options = {"bitrate_mode": mode, "compression_level": 0.6}
    soundfile.write(stream, speech(rate, num_channels), rate, format="MP3", **options)
    return stream.getvalue()


def untagged(contents: bytes) -> bytes:
    first = parse_header(contents[:4])
    assert first is not None
    assert contents[first.side_at + first.side_bytes :][:4] in (b"Xing", b"Info")
    return contents[first.num_bytes :]


def decoded(contents: bytes, name: str = "a.mp3", **options: object) -> np.ndarray:
    rate = stream_header(io.BytesIO(contents), name).sample_rate
    return decode_audio(io.BytesIO(contents), name, sample_rate=rate, **options).numpy()


def libsndfile(contents: bytes) -> np.ndarray:
    with soundfile.SoundFile(io.BytesIO(contents)) as file:
        # Not `read`, which seeks before, after which libmpg123 rounds otherwise.
        samples = np.frombuffer(file.buffer_read(file.frames, dtype="float32"), np.float32)
        return samples.reshape(-1, file.channels).mean(1, dtype=np.float64).astype(np.float32)


@pytest.mark.parametrize(("rate", "mode"), CASES)
def test_files_are_whole_with_and_without_their_tag(rate: int, mode: str) -> None:
    contents = mp3(rate, mode)
    expected = libsndfile(contents)
    np.testing.assert_array_equal(decoded(contents), expected)
    bare = untagged(contents)
    whole = decoded(bare)
    assert len(whole) == stream_header(io.BytesIO(bare), "a").num_samples
    assert len(whole) % parse_header(bare[:4]).num_samples == 0
    assert len(whole) >= len(expected) + LAME_DELAY
    # The tag only says what the encoder put before and after.
    np.testing.assert_array_equal(whole[LAME_DELAY:][: len(expected)], expected)


@pytest.mark.parametrize(("rate", "mode"), [(16_000, "VARIABLE"), (44_100, "VARIABLE")])
@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("has_tag", [True, False])
def test_a_part_is_that_of_the_whole(
    rate: int, mode: str, num_channels: int, has_tag: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    contents = mp3(rate, mode, num_channels)
    contents = contents if has_tag else untagged(contents)
    whole = decoded(contents)
    starts = np.random.default_rng(1).integers(0, len(whole) - 2_000, 12)
    for start in [*map(int, starts), len(whole) - 2_000]:
        part = decoded(contents, start_seconds=start / rate, duration_seconds=2_000 / rate)
        np.testing.assert_array_equal(part, whole[start : start + 2_000])
    assert capfd.readouterr().err == ""  # libmpg123 complains where it lacks data


def test_files_one_after_the_other() -> None:
    one, other = mp3(16_000, "CONSTANT"), mp3(44_100, "VARIABLE", 2)
    first, second = decoded(one), decoded(other)
    np.testing.assert_array_equal(decoded(one + one), np.concatenate([first, first]))
    bare = untagged(one)
    assert len(decoded(bare + bare)) == 2 * len(decoded(bare))
    np.testing.assert_array_equal(decoded(one + bare), np.concatenate([first, decoded(bare)]))
    both = decoded(one + other)  # at the rate of the first
    np.testing.assert_array_equal(both[: len(first)], first)
    assert len(both) == len(first) + len(second) * 16_000 // 44_100
    part = decoded(one + one, start_seconds=3.9, duration_seconds=1.0)
    np.testing.assert_array_equal(part, np.concatenate([first, first])[62_400:78_400])


def syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


def id3(num_bytes: int, footer: bool = False) -> bytes:
    head = b"\4\0" + (b"\x10" if footer else b"\0") + syncsafe(num_bytes)
    # A picture may hold what looks like frames.
    return b"ID3" + head + b"\xff\xfb\x90\x64" * (num_bytes // 4) + (b"3DI" + head) * footer


APE = (
    b"APETAGEX" + bytes.fromhex("d0070000 40000000 01000000") + bytes(12) + b"\xff\xfb\x90\x64" * 8
)
APE_FOOTER = b"APETAGEX" + bytes.fromhex("d0070000 40000000 01000000 00000080") + bytes(8)


@pytest.mark.parametrize("has_tag", [True, False])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (id3(200_000), b""),
        (id3(400, footer=True) + id3(20), b""),
        (b"", b"TAG" + b"\xff" * 125),
        (b"", APE_FOOTER[:-8] + bytes(8) + b"\xff" * 32 + APE_FOOTER),
        (b"", id3(400, footer=True)),
        (b"", b"LYRICSBEGIN" + b"\xff\xfb" * 20 + b"000051LYRICS200" + b"TAG" + bytes(125)),
        (b"", bytes(3_000)),
        (bytes(900), b""),
    ],
)
def test_tags_around_the_frames_change_nothing(before: bytes, after: bytes, has_tag: bool) -> None:
    contents = mp3(16_000, "CONSTANT")
    contents = contents if has_tag else untagged(contents)
    np.testing.assert_array_equal(decoded(before + contents + after), decoded(contents))


def test_truncation_shows_in_the_tag_or_in_the_last_frame() -> None:
    contents = mp3(16_000, "VARIABLE")
    with pytest.raises(AudioError, match=r"a has been cut short: its header promises \d+ samples"):
        decoded(contents[: len(contents) // 2], "a")
    bare = untagged(contents)
    links = find_links(io.BytesIO(bare), 0, len(bare), "a")
    middle = links[0].offsets[len(links[0].offsets) // 2]
    half = decoded(bare[:middle])
    np.testing.assert_array_equal(half, decoded(bare)[: len(half)])
    assert len(half) == len(links[0].offsets) // 2 * 576
    with pytest.raises(AudioError, match="cut short: its last frame lacks 3 bytes.*-c copy"):
        decoded(bare[: middle - 3])


def test_what_a_tag_does_not_count_is_read_too() -> None:
    contents = bytearray(mp3(44_100, "CONSTANT"))
    whole = decoded(untagged(bytes(contents)))
    at = contents.find(b"Info") + 8
    count = int.from_bytes(contents[at : at + 4], "big")
    contents[at : at + 4] = (count // 2).to_bytes(4, "big")
    stale = decoded(bytes(contents))
    np.testing.assert_array_equal(stale, whole[LAME_DELAY:])


def test_damage_in_the_middle() -> None:
    bare = untagged(mp3(16_000, "CONSTANT"))
    offsets = find_links(io.BytesIO(bare), 0, len(bare), "a")[0].offsets
    between = bare[: offsets[40]] + b"junk" * 30 + bare[offsets[40] :]
    np.testing.assert_array_equal(decoded(between), decoded(bare))
    with pytest.raises(AudioError, match="a is damaged: at byte"):
        decoded(bare[: offsets[40]] + b"junk" * 40_000 + bare[offsets[40] :], "a")


def test_what_is_no_mpeg_audio() -> None:
    stream = io.BytesIO(b"\xff\xfb\x90\x64" + b"words " * 4_000)
    assert not is_mpeg(stream, 0)
    assert is_mpeg(io.BytesIO(mp3(16_000, "CONSTANT")), 0)
    assert audio_start(io.BytesIO(id3(400) + id3(40, footer=True) + b"more")) == 470
    with pytest.raises(AudioError, match="a holds no frames"):
        find_links(io.BytesIO(bytes(500)), 0, 500, "a")


@pytest.mark.parametrize("num_missing", [0, 3])
def test_fraunhofer_s_tag_is_no_audio_and_a_promise(num_missing: int) -> None:
    bare = untagged(mp3(44_100, "CONSTANT"))
    offsets = find_links(io.BytesIO(bare), 0, len(bare), "a")[0].offsets
    head = bare[:2] + b"\x90" + bare[3:4]
    frame = parse_header(head)
    assert frame is not None
    tag = b"VBRI" + b"\0\1" + bytes(4) + bytes(4) + (len(offsets) + num_missing).to_bytes(4, "big")
    contents = (head.ljust(36, b"\0") + tag).ljust(frame.num_bytes, b"\0") + bare
    if num_missing:
        with pytest.raises(AudioError, match="cut short: its header promises"):
            decoded(contents)
    else:
        np.testing.assert_array_equal(decoded(contents), decoded(bare))


@pytest.mark.parametrize("name", ["a", "a.mp3"])
def test_bytes_before_the_first_frame(name: str, caplog: pytest.LogCaptureFixture) -> None:
    contents = mp3(16_000, "VARIABLE")
    np.testing.assert_array_equal(decoded(b"junk" * 30 + contents, name), decoded(contents))
    assert "120 bytes before its first frame are no audio" in caplog.messages[0]
    bare = untagged(mp3(16_000, "CONSTANT"))
    offsets = find_links(io.BytesIO(bare), 0, len(bare), "a")[0].offsets
    late = decoded(bare[offsets[4] + 7 :], name)  # as a radio's stream is recorded
    np.testing.assert_allclose(late[8 * 576 :], decoded(bare)[13 * 576 :], atol=1e-6)


@pytest.mark.parametrize("after", [b"junk" * 30, b"junk" * 30_000, bytes(90_000)])
def test_bytes_after_the_last_frame(after: bytes, caplog: pytest.LogCaptureFixture) -> None:
    contents = mp3(16_000, "VARIABLE")
    for whole in (contents, untagged(contents)):
        caplog.clear()
        np.testing.assert_array_equal(decoded(whole + after), decoded(whole))
        assert f"{len(after)} bytes after its frames are no audio" in caplog.messages[-1]
    caplog.clear()
    decoded(contents + bytes(500))
    assert not caplog.messages


def test_a_file_that_ends_within_a_header() -> None:
    bare = untagged(mp3(16_000, "CONSTANT"))
    offsets = find_links(io.BytesIO(bare), 0, len(bare), "a")[0].offsets
    for count in (1, 2, 3):
        with pytest.raises(AudioError, match="a has been cut short: it ends within the header"):
            decoded(bare[: offsets[40] + count], "a")


def test_a_cut_file_before_another_one() -> None:
    contents = mp3(16_000, "CONSTANT")
    with pytest.raises(AudioError, match="a has been cut short: its header promises"):
        decoded(contents[:-100] + contents, "a")
