from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auricle.audio import recordings
from auricle.audio.files import (
    decode_audio,
    open_audio_bytes,
    read_audio,
    read_header,
    stream_header,
)
from auricle.errors import AudioError

RATE = 16_000


def noise(num_samples: int, num_channels: int = 1, seed: int = 0) -> np.ndarray:
    """(S, channels) float64 in (-0.9, 0.9)."""
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (num_samples, num_channels))


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def cut(path: Path, num_bytes: int) -> Path:
    contents = path.read_bytes()
    path.write_bytes(contents[: len(contents) - num_bytes])
    return path


@pytest.mark.parametrize("num_channels", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("container", "subtype", "bits"),
    [
        ("WAV", "PCM_U8", 8),
        ("WAV", "PCM_16", 16),
        ("WAV", "PCM_24", 24),
        ("WAV", "PCM_32", 32),
        ("WAVEX", "PCM_16", 16),
        ("RF64", "PCM_16", 16),
        ("W64", "PCM_16", 16),
        ("AIFF", "PCM_16", 16),
        ("AU", "PCM_16", 16),
        ("CAF", "PCM_16", 16),
        ("NIST", "PCM_16", 16),
        ("FLAC", "PCM_S8", 8),
        ("FLAC", "PCM_16", 16),
        ("FLAC", "PCM_24", 24),
    ],
)
def test_integer_files_are_exact(
    tmp_path: Path, container: str, subtype: str, bits: int, num_channels: int
) -> None:
    codes = np.floor(noise(500, num_channels) * 2 ** (bits - 1))
    codes[0], codes[1] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    path = tmp_path / "sound"
    # The writer takes integers left-aligned in 32 bits.
    aligned = (codes * 2 ** (32 - bits)).astype(np.int32)
    write(path, aligned, format=container, subtype=subtype)
    scaled = (codes / 2 ** (bits - 1)).astype(np.float32)
    mixed = read_audio(path)
    assert mixed.dtype == torch.float32
    assert mixed.device.type == "cpu"
    np.testing.assert_array_equal(mixed, scaled.mean(axis=1, dtype=np.float64).astype("f4"))
    for channel in range(num_channels):
        np.testing.assert_array_equal(read_audio(path, channel=channel), scaled[:, channel])


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_files_are_taken_as_they_are(tmp_path: Path, subtype: str) -> None:
    samples = noise(300) * 3
    path = write(tmp_path / "a.wav", samples, subtype=subtype)
    np.testing.assert_array_equal(read_audio(path), samples[:, 0].astype(np.float32))


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW"])
def test_companded_files(tmp_path: Path, subtype: str) -> None:
    samples = noise(2000)
    path = write(tmp_path / "a.wav", samples, subtype=subtype)
    # Steps of 1/16 of a power of two: half a step of error, relative to the sample.
    np.testing.assert_allclose(read_audio(path), samples[:, 0], rtol=1 / 32, atol=1e-3)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "IMA_ADPCM")],
)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_lossy_files(tmp_path: Path, container: str, subtype: str, num_channels: int) -> None:
    times = np.arange(RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * times)
    path = tmp_path / "sound"
    write(path, np.stack([tone] * num_channels, 1), format=container, subtype=subtype)
    decoded = read_audio(path).numpy()
    assert RATE <= len(decoded) < RATE + 1100
    assert np.corrcoef(decoded[:RATE], tone)[0, 1] > 0.99
    assert decoded[:RATE].std() == pytest.approx(tone.std(), rel=0.02)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    times = np.arange(rate) / rate
    path = write(tmp_path / "a.wav", np.sin(2 * np.pi * 500 * times) / 2, rate, subtype="FLOAT")
    ours = read_audio(path).numpy()
    expected = np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE) / 2
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours[200:-200], expected[200:-200], atol=1e-5)


def test_sample_rate_is_the_caller_s_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(441), 44_100, subtype="FLOAT")
    np.testing.assert_array_equal(
        read_audio(path, sample_rate=44_100), noise(441)[:, 0].astype("f4")
    )
    assert len(read_audio(path, sample_rate=8_000)) == 80


def test_channel_is_chosen_before_resampling(tmp_path: Path) -> None:
    pair = noise(4800, 2)
    both = write(tmp_path / "both.wav", pair, 48_000, subtype="FLOAT")
    alone = write(tmp_path / "alone.wav", pair[:, 1], 48_000, subtype="FLOAT")
    assert torch.equal(read_audio(both, channel=1), read_audio(alone))


def test_many_channels_and_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise(50, 1024).astype(np.float32)
    path = write(tmp_path / "array.wav", samples, subtype="FLOAT")
    monkeypatch.setattr(recordings, "BLOCK_VALUES", 7 * 1024)  # 8 blocks, the last one short
    np.testing.assert_array_equal(
        read_audio(path), samples.mean(1, dtype=np.float64).astype(np.float32)
    )
    np.testing.assert_array_equal(read_audio(path, channel=1023), samples[:, 1023])
    monkeypatch.setattr(recordings, "BLOCK_VALUES", 1)
    np.testing.assert_array_equal(read_audio(path, channel=0), samples[:, 0])


@pytest.mark.parametrize("channel", [2, -1])
def test_channel_that_does_not_exist(tmp_path: Path, channel: int) -> None:
    path = write(tmp_path / "a.wav", noise(100, 2))
    with pytest.raises(AudioError, match=rf"a\.wav has 2 channel.*channel={channel}.*0 to 1"):
        read_audio(path, channel=channel)


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_parts(tmp_path: Path, container: str) -> None:
    path = tmp_path / "sound"
    write(path, noise(1600), format=container)
    whole = read_audio(path)
    assert torch.equal(read_audio(path, start_seconds=0.025), whole[400:])
    assert torch.equal(read_audio(path, start_seconds=0.01, duration_seconds=0.05), whole[160:960])
    assert torch.equal(read_audio(path, duration_seconds=0.1), whole)
    parts = [  # 4.8 samples each: they overlap nowhere and leave nothing out
        read_audio(path, start_seconds=k * 0.0003, duration_seconds=0.0003) for k in range(333)
    ]
    assert torch.equal(torch.cat(parts), whole[: round(333 * 4.8)])


@pytest.mark.parametrize(
    ("start_seconds", "duration_seconds", "message"),
    [
        (0.1, None, "past the end.* 0.1 s long"),
        (-0.1, None, "start_seconds is -0.1, expected 0 or more"),
        (float("nan"), None, "start_seconds is nan"),
        (float("inf"), None, "start_seconds is inf"),
        (0.0, 0.0, "duration_seconds is 0.0, expected at least one sample"),
        (0.0, -1.0, "duration_seconds is -1.0"),
        (0.0, float("inf"), "duration_seconds is inf"),
        (
            0.05,
            0.06,
            "ends at 0.11 s, but the file is 0.1 s long.*leave the end, or the duration, out",
        ),
    ],
)
def test_parts_outside_the_file(
    tmp_path: Path, start_seconds: float, duration_seconds: float | None, message: str
) -> None:
    path = write(tmp_path / "a.wav", noise(1600))
    with pytest.raises(AudioError, match=message):
        read_audio(path, start_seconds=start_seconds, duration_seconds=duration_seconds)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "ULAW"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("NIST", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("W64", "PCM_16"),
        ("CAF", "PCM_16"),
        ("VOC", "PCM_16"),
        ("AVR", "PCM_16"),
        ("SVX", "PCM_16"),
        ("MAT4", "PCM_16"),
        ("MAT5", "PCM_16"),
        ("MPC2K", "PCM_16"),
        ("SDS", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
@pytest.mark.parametrize("part", [0.04, 0.5])
def test_cut_files(tmp_path: Path, container: str, subtype: str, part: float) -> None:
    path = tmp_path / "sound"
    write(path, noise(3 * RATE), format=container, subtype=subtype)
    cut(path, int(path.stat().st_size * part))
    with pytest.raises(AudioError, match=r"sound (is damaged or )?has been cut short"):
        read_audio(path)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "GSM610"),
        ("WAV", "MS_ADPCM"),
        ("AIFF", "DWVW_16"),
        ("VOC", "PCM_U8"),
        ("XI", "DPCM_16"),
    ],
)
def test_parts_where_libsndfile_seeks_by_blocks_or_not_at_all(
    tmp_path: Path, container: str, subtype: str
) -> None:
    path = tmp_path / "a"
    write(path, noise(20_000) / 2, 8_000, format=container, subtype=subtype)
    rate = read_header(path).sample_rate
    whole = read_audio(path, sample_rate=rate)
    for start in (3_000, 12_000):
        part = read_audio(
            path, sample_rate=rate, start_seconds=start / rate, duration_seconds=4_000 / rate
        )
        assert torch.equal(part, whole[start : start + 4_000])


def test_a_part_may_overshoot_by_what_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1_600))
    part = read_audio(path, start_seconds=0.05, duration_seconds=0.06, overshoot_seconds=0.01)
    assert torch.equal(part, read_audio(path)[800:])
    with pytest.raises(AudioError, match="the part ends at 0.11 s"):
        read_audio(path, start_seconds=0.05, duration_seconds=0.06, overshoot_seconds=0.009)


def test_bytes_are_read_as_files_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(1_600, 2), format="FLAC")
    stream = io.BytesIO(path.read_bytes())
    options = {"channel": 1, "start_seconds": 0.01, "duration_seconds": 0.05}
    assert torch.equal(decode_audio(stream, "it", **options), read_audio(path, **options))
    assert stream_header(io.BytesIO(path.read_bytes()), "it") == read_header(path)
    with pytest.raises(AudioError, match="cannot read it as audio"):
        stream_header(io.BytesIO(b"no audio"), "it")
    with open_audio_bytes(path) as opened:
        assert opened.read() == path.read_bytes()


def test_cut_file_fails_on_its_header(tmp_path: Path) -> None:
    path = cut(write(tmp_path / "a.wav", noise(100)), 2)
    with pytest.raises(AudioError, match="cut short: its header promises 2 bytes more"):
        read_header(path)


def test_damaged_flac(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(3 * RATE))
    contents = bytearray(path.read_bytes())
    middle = len(contents) // 2
    contents[middle : middle + 4000] = bytes(4000)
    path.write_bytes(contents)
    with pytest.raises(AudioError, match=r"a.flac is damaged.*stopped after .*flac"):
        read_audio(path)


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(3000), subtype="PCM_16")
    expected = read_audio(path)
    contents = bytearray(path.read_bytes())
    contents[21] &= 0xF0  # STREAMINFO's 36 bits for the number of samples
    contents[22:26] = bytes(4)
    path.write_bytes(contents)
    header = read_header(path)
    assert header.num_samples is None
    assert header.seconds is None
    assert torch.equal(read_audio(path), expected)
    assert torch.equal(read_audio(path, start_seconds=0.1), expected[1600:])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none(tmp_path: Path, value: float) -> None:
    samples = noise(900, 2)
    samples[[40, 77], 1] = value
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a.wav: 2 of 900 samples are NaN.*first at sample 40"):
        read_audio(path)
    np.testing.assert_array_equal(read_audio(path, channel=0), samples[:, 0].astype("f4"))


def test_rates(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1), 48_000)
    with pytest.raises(AudioError, match=r"a\.wav: 1 sample.* at 48000 Hz are less than one"):
        read_audio(path)
    slow = write(tmp_path / "slow.wav", noise(10), 16)
    with pytest.raises(AudioError, match=r"slow\.wav: the sample rate is 16, expected"):
        read_audio(slow)
    with pytest.raises(AudioError, match=r"^the sample rate is 0, expected"):
        read_audio(path, sample_rate=0)


def flac_that_counts(num_samples: int) -> tuple[bytes, np.ndarray]:
    """A FLAC file of 3,000 samples whose header counts another number, and the samples."""
    stream = io.BytesIO()
    soundfile.write(stream, noise(3_000), RATE, format="FLAC", subtype="PCM_16")
    samples, _ = soundfile.read(io.BytesIO(stream.getvalue()), dtype="float32")
    contents = bytearray(stream.getvalue())
    contents[22:26] = num_samples.to_bytes(4, "big")
    return bytes(contents), samples


def test_flac_with_more_samples_than_it_counts(caplog: pytest.LogCaptureFixture) -> None:
    contents, samples = flac_that_counts(1_000)
    np.testing.assert_array_equal(decode_audio(io.BytesIO(contents), "a"), samples)
    assert caplog.messages == [
        "a: its header counts 1000 samples, but 2000 more follow: all are read"
    ]
    late = {"start_seconds": 0.1, "duration_seconds": 0.05}
    np.testing.assert_array_equal(
        decode_audio(io.BytesIO(contents), "a", **late), samples[1600:2400]
    )
    with pytest.raises(AudioError, match="ends at 0.2 s, but the file is 0.1875 s long"):
        decode_audio(io.BytesIO(contents), "a", start_seconds=0.1, duration_seconds=0.1)
    with pytest.raises(AudioError, match="cut short: its header promises 4000 samples, but only"):
        decode_audio(io.BytesIO(flac_that_counts(4_000)[0]), "a")


@pytest.mark.parametrize(("start", "message"), [(0.15, "ends at 0.25 s"), (0.5, "is past the end")])
def test_parts_past_the_end_of_an_open_length(start: float, message: str) -> None:
    contents, _ = flac_that_counts(0)
    with pytest.raises(AudioError, match=f"{message}.*0.1875 s long: .*(start_ms|leave the end)"):
        decode_audio(io.BytesIO(contents), "a", start_seconds=start, duration_seconds=0.1)


@pytest.mark.parametrize("after", [b"TAG" + bytes(125), bytes(5_000), b"junk" * 500])
def test_what_follows_a_flac_file_and_is_none(after: bytes) -> None:
    contents, samples = flac_that_counts(3_000)
    np.testing.assert_array_equal(decode_audio(io.BytesIO(contents + after), "a"), samples)


def encoded(num_channels: int, rate: int, container: str, subtype: str | None = None) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, noise(4_000, num_channels) / 2, rate, format=container, subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("FLAC", None),
        ("WAV", None),
        ("W64", None),
        ("AIFF", None),
        ("AU", None),
        ("CAF", None),
        ("RF64", None),
    ],
)
def test_recordings_one_after_the_other(container: str, subtype: str | None) -> None:
    one = encoded(1, RATE, container, subtype)
    two = encoded(2, RATE, container, subtype)
    alone = [decode_audio(io.BytesIO(contents), "a") for contents in (one, two)]
    both = decode_audio(io.BytesIO(one + two), "a")
    assert torch.equal(both, torch.cat(alone))
    part = decode_audio(io.BytesIO(one + two), "a", start_seconds=0.2, duration_seconds=0.1)
    assert torch.equal(part, both[3_200:4_800])
    late = decode_audio(io.BytesIO(one + two), "a", start_seconds=0.4)
    assert torch.equal(late, both[6_400:])
    if container != "FLAC":
        assert stream_header(io.BytesIO(one + two), "a").num_samples == len(both)
    assert torch.equal(
        decode_audio(io.BytesIO(one + two), "a", channel=0)[: len(alone[0])], alone[0]
    )
    with pytest.raises(AudioError, match="has 1 channel"):
        decode_audio(io.BytesIO(one + two), "a", channel=1)


def test_a_recording_of_another_rate_is_brought_to_the_first_one_s() -> None:
    times = np.arange(8_000) / 8_000
    tone = io.BytesIO()
    soundfile.write(tone, np.sin(2 * np.pi * 500 * times) / 2, 8_000, format="AU", subtype="FLOAT")
    one = encoded(1, RATE, "AU")
    both = decode_audio(io.BytesIO(one + tone.getvalue()), "a")
    assert len(both) == 4_000 + 16_000
    expected = np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE) / 2
    np.testing.assert_allclose(both[4_000:][200:-200], expected[200:-200], atol=1e-5)
    part = decode_audio(
        io.BytesIO(one + tone.getvalue()), "a", start_seconds=0.5, duration_seconds=0.25
    )
    assert torch.equal(part, both[8_000:12_000])


@pytest.mark.parametrize("count", [3_001, (1 << 36) - 1])
def test_flac_with_fewer_samples_than_it_counts(count: int) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, noise(3_000), RATE, format="FLAC")
    contents = bytearray(stream.getvalue())
    contents[21] = contents[21] & 0xF0 | count >> 32
    contents[22:26] = (count & 0xFFFF_FFFF).to_bytes(4, "big")
    with pytest.raises(AudioError, match=f"promises {count} samples, but only 3000"):
        decode_audio(io.BytesIO(contents), "a")
