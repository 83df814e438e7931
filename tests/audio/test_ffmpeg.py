from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auricle.audio import ffmpeg
from auricle.audio.ffmpeg import HEAD_BYTES, kind_of
from auricle.audio.files import read_audio, read_header
from auricle.errors import AudioError

RATE = 16_000
MP4 = b"\0\0\0\x18ftypM4A " + bytes(300)
SAMPLES = np.random.default_rng(0).uniform(-0.5, 0.5, (9_000, 2)).astype("<f4")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (MP4, "MP4"),
        (b"\x1a\x45\xdf\xa3", "Matroska"),
        (b"\x30\x26\xb2\x75", "ASF"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"\xff\xf1\x50\x80\0\x1f\xfc\0", "AAC"),
        (b"G" + bytes(187) + b"G", "MPEG transport stream"),
        (b"#!AMR\n", "AMR"),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b"\xff\xfb\x90\x64\0\0\0\0", ""),
        (b"#EXTM3U\nhttp://example.com/a.m4a\n", ""),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", ""),
    ],
)
def test_kinds(head: bytes, kind: str) -> None:
    assert kind_of(head[:HEAD_BYTES]) == kind


def use(monkeypatch: pytest.MonkeyPatch, program: Path | None) -> None:
    found = None if program is None else str(program)
    monkeypatch.setattr(ffmpeg.shutil, "which", lambda name: found if name == "ffmpeg" else None)
    monkeypatch.setattr(ffmpeg, "_has_torchcodec", lambda: False)


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in FFmpeg's place, which writes the WAV and the words that lie beside it."""
    program = tmp_path / "ffmpeg"
    head = struct.pack("<HHIIHH", 3, 2, RATE, 8 * RATE, 8, 32)
    wav = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + head + b"LIST\4\0\0\0INFO"
    (tmp_path / "out").write_bytes(wav + b"data\xff\xff\xff\xff" + SAMPLES.tobytes())
    (tmp_path / "said").write_text("")
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat {tmp_path}/out\n'
        f"cat {tmp_path}/said >&2\n"
    )
    program.chmod(0o755)
    use(monkeypatch, program)
    return tmp_path


needs_sh = pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")


@needs_sh
def test_samples_and_parts(fake_ffmpeg: Path) -> None:
    path = fake_ffmpeg / "a b.m4a"
    path.write_bytes(MP4)
    header = read_header(path)
    assert (header.num_samples, header.sample_rate, header.num_channels) == (None, RATE, 2)
    whole = read_audio(path)
    mean = SAMPLES.mean(1, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(whole, mean)
    np.testing.assert_array_equal(read_audio(path, channel=1), SAMPLES[:, 1])
    part = read_audio(path, start_seconds=0.1, duration_seconds=0.2)
    np.testing.assert_array_equal(part, mean[1_600:4_800])
    arguments = (fake_ffmpeg / "arguments").read_text().strip()
    assert arguments == (
        "-nostdin -v error -threads 1 -protocol_whitelist file -format_whitelist "
        f"{ffmpeg.DEMUXERS} -i file:{path} -map 0:a:0 -f wav -c:a pcm_f32le pipe:1"
    )
    assert not {"hls", "concat", "dash", "sdp", "rtsp"} & set(ffmpeg.DEMUXERS.split(","))
    with pytest.raises(AudioError, match="past the end, the file is 0.5625 s long"):
        read_audio(path, start_seconds=3)


@needs_sh
def test_bytes_without_a_path_are_copied(fake_ffmpeg: Path) -> None:
    recording = ffmpeg.ForeignRecording(io.BytesIO(MP4), "a", "MP4")
    read = np.concatenate(list(recording.blocks(0, None)))
    np.testing.assert_array_equal(read, SAMPLES)
    copy = (fake_ffmpeg / "arguments").read_text().split("file:")[1].split()[0]
    assert not Path(copy).exists()


@needs_sh
def test_what_ffmpeg_complains_of_is_an_error(fake_ffmpeg: Path) -> None:
    path = fake_ffmpeg / "a.m4a"
    path.write_bytes(MP4)
    (fake_ffmpeg / "said").write_text("first\nstream 0: partial file\n")
    with pytest.raises(
        AudioError, match=r"a\.m4a cannot be decoded whole.*'stream 0: partial file'"
    ):
        read_audio(path)
    (fake_ffmpeg / "out").write_bytes(b"")
    with pytest.raises(AudioError, match="partial file"):
        read_header(path)
    (fake_ffmpeg / "said").write_text("")
    with pytest.raises(AudioError, match="'exit status 0'"):
        read_audio(path)


def test_without_ffmpeg_and_torchcodec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None)
    (tmp_path / "a.m4a").write_bytes(MP4)
    with pytest.raises(AudioError, match=r"a\.m4a is MP4, which .* does not read: install ffmpeg"):
        read_audio(tmp_path / "a.m4a")


@pytest.mark.parametrize("promised", [9_000 / RATE, 1.0])
def test_torchcodec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promised: float) -> None:
    class AudioDecoder:
        def __init__(self, source: io.BufferedReader) -> None:
            assert source.read() == MP4
            self.metadata = types.SimpleNamespace(duration_seconds_from_header=promised)

        def get_all_samples(self) -> types.SimpleNamespace:
            data = torch.from_numpy(np.ascontiguousarray(SAMPLES.T))
            return types.SimpleNamespace(data=data, sample_rate=RATE)

    use(monkeypatch, None)
    monkeypatch.setattr(ffmpeg, "_has_torchcodec", lambda: True)
    module = types.ModuleType("torchcodec.decoders")
    module.AudioDecoder = AudioDecoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)
    (tmp_path / "a.m4a").write_bytes(MP4)
    if promised == 1.0:
        with pytest.raises(AudioError, match="promises 1 s, but only 0.5625 s could be decoded"):
            read_audio(tmp_path / "a.m4a")
    else:
        read = read_audio(tmp_path / "a.m4a", channel=0, start_seconds=0.25)
        np.testing.assert_array_equal(read, SAMPLES[4_000:, 0])


@pytest.mark.parametrize(
    ("contents", "missing"),
    [
        (b"RIFF\x64\0\0\0AVI " + bytes(60), 36),
        (b"FLV\x01" + bytes(9) + b"\x08\0\0\x14" + bytes(31), 0),
        (b"FLV\x01" + bytes(9) + b"\x08\0\0\x14" + bytes(21), 10),
        (bytes.fromhex("1a45dfa3 82 0000 18538067 4020") + bytes(32), 0),
        (bytes.fromhex("1a45dfa3 82 0000 18538067 4020") + bytes(30), 2),
        (bytes.fromhex("1a45dfa3 82 0000 18538067 01ffffffffffffff") + bytes(30), 0),
    ],
)
def test_cut_files_of_which_ffmpeg_says_nothing(contents: bytes, missing: int) -> None:
    kind = kind_of(contents)
    assert ffmpeg._missing_bytes(io.BytesIO(contents), kind) == missing
    if missing:
        with pytest.raises(AudioError, match=f"its headers promise {missing} bytes more"):
            ffmpeg.ForeignRecording(io.BytesIO(contents), "a", kind)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ffmpeg_itself(tmp_path: Path) -> None:
    pcm, path = tmp_path / "a.f32", tmp_path / "a.mka"
    pcm.write_bytes(SAMPLES.tobytes())
    raw = ["-f", "f32le", "-ar", str(RATE), "-ac", "2", "-i", str(pcm)]
    subprocess.run(["ffmpeg", "-v", "error", *raw, "-c:a", "pcm_f32le", path], check=True)
    np.testing.assert_array_equal(read_audio(path, channel=1), SAMPLES[:, 1])
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(AudioError, match="has been cut short"):
        read_audio(path)


def box(name: bytes, contents: bytes, *, is_large: bool = False) -> bytes:
    if is_large:
        return struct.pack(">I4sQ", 1, name, 16 + len(contents)) + contents
    return struct.pack(">I4s", 8 + len(contents), name) + contents


def asf_object(first: bytes, contents: bytes) -> bytes:
    return first + bytes(12) + struct.pack("<Q", 24 + len(contents)) + contents


MP4_FILES = [
    box(b"ftyp", b"M4A " + bytes(20)) + box(b"moov", bytes(90)) + box(b"mdat", bytes(900)),
    box(b"ftyp", bytes(16)) + box(b"mdat", b"ftyp" * 99, is_large=True) + box(b"moov", bytes(9)),
]
ASF_FILE = asf_object(ffmpeg.ASF_HEADER, bytes(80)) + asf_object(b"data", bytes(900))


@needs_sh
@pytest.mark.parametrize("contents", [*MP4_FILES, ASF_FILE])
def test_a_second_recording_that_ffmpeg_would_not_read(fake_ffmpeg: Path, contents: bytes) -> None:
    path = fake_ffmpeg / "a"
    path.write_bytes(contents)
    assert len(read_audio(path)) == len(SAMPLES)
    path.write_bytes(contents * 2)
    with pytest.raises(AudioError, match=f"several recordings.* begins at byte {len(contents)};"):
        read_audio(path)


@needs_sh
def test_a_box_up_to_the_end_is_no_second_recording(fake_ffmpeg: Path) -> None:
    path = fake_ffmpeg / "a"
    path.write_bytes(box(b"ftyp", bytes(16)) + b"\0\0\0\0mdat" + bytes(99) + MP4_FILES[0])
    assert len(read_audio(path)) == len(SAMPLES)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_links_of_a_chain_that_libsndfile_does_not_read(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(-9_000, 9_000, 8_000).astype("<i2")
    raw = ["-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "-", "-c:a", "flac"]
    path = tmp_path / "a.oga"
    links = []
    for serial in ("1", "2"):
        command = ["ffmpeg", "-v", "error", "-y", *raw, "-serial_offset", serial, path]
        subprocess.run(command, input=codes.tobytes(), check=True)
        links.append(path.read_bytes())
    vorbis = io.BytesIO()
    soundfile.write(vorbis, codes, 16_000, format="OGG", subtype="VORBIS")
    path.write_bytes(links[0] + vorbis.getvalue() + links[1])
    read = read_audio(path).numpy()
    expected = codes.astype(np.float32) / 32768
    assert len(read) == 24_000
    np.testing.assert_array_equal(read[:8_000], expected)
    np.testing.assert_array_equal(read[16_000:], expected)
