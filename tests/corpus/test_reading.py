from __future__ import annotations

import dataclasses
import io
import itertools
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from auricle.audio.files import read_audio, resample
from auricle.audio.inputs import sample_paths
from auricle.corpus import reading
from auricle.corpus.reading import (
    count_samples,
    decode_utterance,
    read_utterance,
    seconds_by_header,
    utterance_seconds,
)
from auricle.corpus.utterance import Utterance
from auricle.errors import AudioError

RATE = 16_000


def noise(num_samples: int, num_channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (num_samples, num_channels))


def write(
    path: Path, num_samples: int, num_channels: int = 1, rate: int = RATE, **options: Any
) -> Path:
    soundfile.write(path, noise(num_samples, num_channels), rate, **options)
    return path


def utterance(path: Path, **fields: Any) -> Utterance:
    return Utterance(**{"id": "u", "source": str(path)} | fields)


def test_a_whole_file_is_what_the_reader_of_files_gives() -> None:
    path = sample_paths()[0]
    assert torch.equal(read_utterance(utterance(path), sample_rate=RATE), read_audio(path))


@pytest.mark.parametrize(
    ("start", "seconds"), [(0.0, 0.1), (0.05, 0.1), (0.123456, 0.2), (0.3, None)]
)
@pytest.mark.parametrize("channel", [None, 0, 1])
@pytest.mark.parametrize(("suffix", "subtype"), [(".flac", "PCM_24"), (".wav", "PCM_24")])
def test_a_part_is_cut_at_the_files_own_rate(
    tmp_path: Path,
    start: float,
    seconds: float | None,
    channel: int | None,
    suffix: str,
    subtype: str,
) -> None:
    path = write(tmp_path / f"a{suffix}", 24_000, 2, 48_000, subtype=subtype)
    whole, _ = soundfile.read(path, dtype="float32")
    mono = (
        whole.mean(1, dtype=np.float64).astype(np.float32) if channel is None else whole[:, channel]
    )
    end = None if seconds is None else round((start + seconds) * 48_000)
    expected = resample(np.ascontiguousarray(mono[round(start * 48_000) : end]), 48_000, RATE)
    part = utterance(path, start=start, seconds=seconds, channel=channel)
    assert np.array_equal(read_utterance(part, sample_rate=RATE).numpy(), expected)


def test_parts_that_touch_tile_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 10_007, rate=11_025)
    cuts = [0.0, 0.1234567, 0.5, 0.77777, 10_007 / 11_025]
    parts = [
        read_utterance(utterance(path, start=a, seconds=b - a), sample_rate=11_025)
        for a, b in itertools.pairwise(cuts)
    ]
    assert torch.equal(torch.cat(parts), read_audio(path, sample_rate=11_025))


def test_a_list_may_round_but_not_run_past_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 16_000)
    for seconds in (0.5, 0.5099):
        part = utterance(path, start=0.5, seconds=seconds)
        assert torch.equal(read_utterance(part, sample_rate=RATE), read_audio(path)[8_000:])
    with pytest.raises(
        AudioError, match=r"^u: .*a.wav: the part ends at 1.02 s, but the file is 1 s"
    ):
        read_utterance(utterance(path, start=0.5, seconds=0.52), sample_rate=RATE)
    with pytest.raises(AudioError, match="past the end"):
        read_utterance(utterance(path, start=1.0, seconds=0.005), sample_rate=RATE)


def test_errors_name_the_id_and_the_source(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.0, np.nan] * 50), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"^u: .*a\.wav: 50 of 100 samples are NaN"):
        read_utterance(utterance(path), sample_rate=RATE)
    with pytest.raises(AudioError, match=r"^u: cannot open .*gone\.wav"):
        read_utterance(utterance(tmp_path / "gone.wav"), sample_rate=RATE)
    with pytest.raises(AudioError, match=r"^u: .*channel=3 was asked"):
        read_utterance(utterance(write(path, 100), channel=3), sample_rate=RATE)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, num_samples in (("one.flac", 1_600), ("two.wav", 3_200), ("no.wav", 0)):
            buffer = io.BytesIO()
            form = name.rpartition(".")[2].upper()
            soundfile.write(buffer, noise(num_samples, 2, num_samples), RATE, format=form)
            info = tarfile.TarInfo(name)
            info.size = len(buffer.getvalue())
            tar.addfile(info, io.BytesIO(buffer.getvalue()))
    return path


def test_members_of_an_archive(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    for name in ("two.wav", "one.flac"):
        for fields in ({}, {"channel": 1}, {"start": 0.025, "seconds": 0.05}):
            member = utterance(archive, container="tar", member=name, **fields)
            file = utterance(tmp_path / name, **fields)
            got = read_utterance(member, sample_rate=8_000)
            assert torch.equal(got, read_utterance(file, sample_rate=8_000))


def test_members_that_cannot_be_read(archive: Path) -> None:
    for name, reason in (("no.wav", "holds no samples"), ("gone.wav", "no readable member")):
        with pytest.raises(AudioError, match=rf"^u: .*x.tar.*{reason}"):
            read_utterance(utterance(archive, container="tar", member=name), sample_rate=RATE)


def test_rows_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.flac", 1_600)
    cells = {
        "s:0": (path.read_bytes(), "a.flac"),
        "s:1": (None, str(path)),
        "s:2": (b"no", "a.wav"),
    }
    monkeypatch.setattr(reading, "row_audio", lambda source, member: cells[member])
    for member in ("s:0", "s:1"):
        row = utterance(Path("set"), container="dataset", member=member)
        assert torch.equal(read_utterance(row, sample_rate=RATE), read_audio(path))
        assert utterance_seconds([row], 1) == [0.1]
    with pytest.raises(AudioError, match=r"^u: cannot read set:s:2 as audio"):
        read_utterance(utterance(Path("set"), container="dataset", member="s:2"), sample_rate=RATE)


def test_lengths_by_lists_and_by_headers(tmp_path: Path, archive: Path) -> None:
    path = write(tmp_path / "a.wav", 12_000, rate=8_000)
    lengths = utterance_seconds(
        [
            utterance(Path("never opened"), seconds=2.5),
            utterance(Path("never opened"), id="known"),
            utterance(path),
            utterance(path, start=0.5),
            utterance(archive, container="tar", member="two.wav"),
            utterance(tmp_path / "gone.wav"),
            utterance(path, start=1.5),
        ],
        2,
        {"known": 7.0},
    )
    assert lengths[:5] == [2.5, 7.0, 1.5, 1.0, 0.2]
    missing, late = lengths[5:]
    assert isinstance(missing, AudioError)
    assert str(missing).startswith(f"u: cannot open {tmp_path}/gone.wav")
    assert isinstance(late, AudioError)
    assert "is 1.5 s long, but the utterance begins at 1.5 s" in str(late)


def test_a_length_that_is_left_open_is_found_by_decoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", 12_345, rate=8_000)
    contents = bytearray(path.read_bytes())
    # STREAMINFO: the number of samples is the lower 36 bits of the 8 bytes from byte 18 on.
    (packed,) = struct.unpack_from(">Q", contents, 18)
    struct.pack_into(">Q", contents, 18, packed >> 36 << 36)
    path.write_bytes(contents)
    assert utterance_seconds([utterance(path)], 1) == [12_345 / 8_000]


def test_a_cut_archive_gives_what_is_whole_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a.flac", "b.flac", "c.flac"):
            stream = io.BytesIO()
            soundfile.write(stream, noise(3_000), RATE, format="FLAC")
            info = tarfile.TarInfo(name)
            info.size = len(stream.getvalue())
            archive.addfile(info, io.BytesIO(stream.getvalue()))
    with tarfile.open(path) as archive:
        offset = archive.getmember("c.flac").offset
    members = [
        Utterance(id=f"u{n}", source=str(path), container="tar", member=n)
        for n in ("a.flac", "b.flac")
    ]
    whole = [read_utterance(member, sample_rate=RATE) for member in members]
    for end in (offset, offset + 300, offset + 900):
        cut = tmp_path / f"{end}.tar"
        cut.write_bytes(path.read_bytes()[:end])
        for member, expected in zip(members, whole, strict=True):
            moved = dataclasses.replace(member, source=str(cut))
            assert torch.equal(read_utterance(moved, sample_rate=RATE), expected)


def test_a_part_that_begins_after_what_the_header_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", 8_000)
    expected = read_audio(path)[5_600:]
    contents = bytearray(path.read_bytes())
    contents[22:26] = (3_000).to_bytes(4, "big")
    path.write_bytes(contents)
    late = utterance(path, start=0.35)
    assert utterance_seconds([late], 1) == [pytest.approx(0.15)]
    assert torch.equal(read_utterance(late, sample_rate=RATE), expected)
    (error,) = utterance_seconds([utterance(path, start=0.6)], 1)
    assert isinstance(error, AudioError)
    assert "is 0.5 s long" in str(error)


def test_lengths_in_samples_and_parts_of_utterances(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 24_000, rate=8_000)
    late = utterance(path, start=1.0)
    assert count_samples(utterance(path), sample_rate=RATE) == 48_000
    assert count_samples(late, sample_rate=RATE) == 32_000
    assert count_samples(utterance(path, seconds=0.5), sample_rate=RATE) == 8_000
    assert seconds_by_header(late) == 2.0
    assert seconds_by_header(utterance(path, seconds=0.5)) == 0.5
    whole = read_audio(path, sample_rate=8_000)
    part = decode_utterance(late, sample_rate=8_000, start=0.5, seconds=0.25)
    assert torch.equal(part, whole[12_000:14_000])
    inner = decode_utterance(utterance(path, start=1.0, seconds=1.0), sample_rate=8_000, start=0.5)
    assert torch.equal(inner, whole[12_000:16_000])
    with pytest.raises(AudioError, match=r"^cannot open .*gone\.wav"):
        decode_utterance(utterance(tmp_path / "gone.wav"), sample_rate=RATE)
