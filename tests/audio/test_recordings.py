from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from auricle.audio import recordings
from auricle.audio.inputs import sample_paths
from auricle.audio.recordings import open_recordings
from auricle.errors import AudioError

RATE = 16_000


def encoded(container: str, subtype: str, rate: int, **options: float) -> bytes:
    spoken, _ = soundfile.read(sample_paths()[1])
    stream = io.BytesIO()
    soundfile.write(stream, spoken, rate, format=container, subtype=subtype, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("container", "subtype", "rate", "options"),
    [
        # Of these, libsndfile by itself gives other samples after a seek.
        ("OGG", "VORBIS", 44_100, {"compression_level": 0.1}),
        ("OGG", "OPUS", 16_000, {"compression_level": 0.95}),
        ("MP3", "MPEG_LAYER_III", 16_000, {}),
        ("FLAC", "PCM_16", 16_000, {}),
    ],
)
def test_blocks_from_anywhere_are_those_of_the_whole(
    container: str, subtype: str, rate: int, options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "VORBIS_LEAD_SECONDS", 0)
    stream = io.BytesIO(encoded(container, subtype, rate, **options))
    (recording,) = open_recordings(stream, "a", is_thorough=True)
    whole = np.concatenate(list(recording.blocks(0, None)))
    assert recording.num_samples == len(whole)
    for start in [
        *range(8_000, 73_000, 8_000),
        *range(len(whole) - 9_000, len(whole) - 999, 2_000),
    ]:
        part = np.concatenate(list(recording.blocks(start, start + 1_000)))
        np.testing.assert_array_equal(part, whole[start : start + 1_000])
    assert list(recording.blocks(len(whole), len(whole))) == []
    recording.close()
    assert not stream.closed


def test_what_is_no_audio() -> None:
    with pytest.raises(AudioError, match="cannot read a as audio: Format not recognised"):
        open_recordings(io.BytesIO(b"\1words " * 90), "a", is_thorough=True)
    for text in ("a.wav\nb.wav\n", "\ufeffone two", "é" * 500, "a" + "é" * 500):
        with pytest.raises(AudioError, match="it is text; check its contents"):
            open_recordings(io.BytesIO(text.encode()), "a", is_thorough=True)
    with pytest.raises(AudioError, match="check its contents or convert it"):
        open_recordings(io.BytesIO("é".encode("latin-1") * 90), "a", is_thorough=True)
    with pytest.raises(AudioError, match=r"a\.mp3 holds no frames of MPEG audio"):
        open_recordings(io.BytesIO(bytes(900)), "a.mp3", is_thorough=True)
    for container in ("WAV", "W64", "AIFF", "AU", "CAF"):
        stream = io.BytesIO()
        soundfile.write(stream, np.zeros(0), RATE, format=container)
        with pytest.raises(AudioError, match="a holds no samples"):
            open_recordings(stream, "a", is_thorough=True)
