from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auricle.audio import recordings
from auricle.audio.decoding import AudioHeader, decode_audio, stream_header
from auricle.audio.files import list_audio_files, open_audio_bytes, read_audio, read_header
from auricle.audio.samples import sample_paths
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


@pytest.mark.parametrize("name", ["with space.wav", "Grüße 日本語.wav", "no_suffix", "a.mp3"])
def test_any_name_as_str_or_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, noise(64), format="WAV", subtype="FLOAT")
    expected = noise(64)[:, 0].astype(np.float32)
    np.testing.assert_array_equal(read_audio(path), expected)
    np.testing.assert_array_equal(read_audio(str(path)), expected)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_name_that_is_not_unicode(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.wav", noise(64))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    plain.rename(odd)
    assert len(read_audio(odd)) == 64


def make_missing(path: Path) -> None:
    pass


def make_folder(path: Path) -> None:
    path.mkdir()


def make_empty(path: Path) -> None:
    path.touch()


def make_text(path: Path) -> None:
    path.write_text("These are words, not sound.\n" * 50)


def make_no_samples(path: Path) -> None:
    write(path, noise(0))


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


BAD_FILES = [
    (make_missing, "cannot open .*a.wav: No such file.*check the path"),
    (make_folder, "a.wav is a folder.*pass the files in it"),
    (make_empty, r"a.wav is empty \(0 bytes\)"),
    (make_text, "cannot read .*a.wav as audio.*[Ff]ormat.*check its contents or convert it"),
    (make_no_samples, "a.wav holds no samples"),
    pytest.param(
        make_fifo,
        "a.wav is a pipe",
        marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here"),
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD_FILES)
@pytest.mark.parametrize("read", [read_audio, read_header])
def test_bad_files(tmp_path: Path, make, message: str, read) -> None:
    make(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=message):
        read(tmp_path / "a.wav")


def test_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    path = write(tmp_path / "a.wav", noise(10))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match=r"cannot open .*a\.wav: Permission denied; check"):
        read_audio(path)


def test_raw_samples_and_impossible_names(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"12345678")
    with pytest.raises(AudioError, match=r"a\.raw: raw samples.*\(samples, sample_rate\)"):
        read_audio(tmp_path / "a.raw")
    with pytest.raises(AudioError, match="check the path"):
        read_audio("a\0b.wav")
    with pytest.raises(AudioError, match="check the path"):
        read_audio("a" * 5000)


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
    ],
)
@pytest.mark.parametrize("part", [0.03, 0.5])
def test_cut_files(tmp_path: Path, container: str, subtype: str, part: float) -> None:
    path = tmp_path / "sound"
    write(path, noise(3 * RATE), format=container, subtype=subtype)
    cut(path, int(path.stat().st_size * part))
    with pytest.raises(AudioError, match=r"sound (is damaged or )?has been cut short"):
        read_audio(path)


@pytest.mark.parametrize(
    ("container", "subtype", "rate"),
    [("OGG", "VORBIS", RATE), ("OGG", "OPUS", RATE), ("WAV", "GSM610", 8_000)],
)
def test_a_part_of_a_lossy_file_is_that_of_the_whole(
    tmp_path: Path, container: str, subtype: str, rate: int
) -> None:
    # libsndfile alone lands elsewhere in the last page, and cannot seek in GSM at all.
    spoken, _ = soundfile.read(sample_paths()[1])
    path = write(tmp_path / "sound", spoken, rate, format=container, subtype=subtype)
    whole = read_audio(path, sample_rate=rate)
    for start in (12_345, len(whole) // 2, len(whole) - 9_400, len(whole) - 9_000):
        part = read_audio(
            path, sample_rate=rate, start_seconds=start / rate, duration_seconds=3_000 / rate
        )
        assert torch.equal(part, whole[start : start + 3_000])


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


def test_cut_mp3(tmp_path: Path) -> None:
    # In a process of its own: the MP3 decoder writes to the terminal below Python.
    path = write(tmp_path / "a.mp3", noise(3 * RATE), format="MP3")
    cut(path, path.stat().st_size // 2)
    code = f"from auricle.audio.files import read_audio; read_audio({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "AudioError" in done.stderr
    assert "promises 48000 samples, but only" in done.stderr


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


def test_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(4410, 3), 44_100)
    header = read_header(path)
    assert header == AudioHeader(num_samples=4410, sample_rate=44_100, num_channels=3)
    assert header.seconds == 0.1


def test_list_audio_files(tmp_path: Path) -> None:
    names = [
        "b.wav",
        "z.wav",
        "m.mp3",
        "k.ogg",
        "x.aiff",
        "a/c.FLAC",
        "a/b/d.opus",
        "a/.hidden.wav",
        ".git/e.wav",
        "notes.txt",
        "wav",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    left_out = {"a/.hidden.wav", ".git/e.wav", "notes.txt", "wav"}
    found = list_audio_files(tmp_path)
    assert found == [tmp_path / name for name in sorted(set(names) - left_out)]
    assert list_audio_files(str(tmp_path / "folder.wav")) == []


def test_list_audio_files_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"cannot list .*absent: No such file"):
        list_audio_files(tmp_path / "absent")
    (tmp_path / "a.wav").touch()
    with pytest.raises(AudioError, match=r"cannot list .*Not a directory; pass a folder"):
        list_audio_files(tmp_path / "a.wav")
