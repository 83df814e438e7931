from __future__ import annotations

import pytest

from auricle.audio.mpeg_frames import parse_header


@pytest.mark.parametrize(
    ("head", "num_bytes", "num_samples", "rate"),
    [
        ("fffb9064", 417, 1152, 44_100),  # MPEG 1, layer III, 128 kbit/s
        ("fffb9264", 418, 1152, 44_100),  # with padding
        ("fff344c4", 96, 576, 24_000),  # MPEG 2, 32 kbit/s
        ("ffe318c4", 72, 576, 8_000),  # MPEG 2.5, 8 kbit/s
        ("fffd8004", 417, 1152, 44_100),  # layer II, 128 kbit/s
        ("ffff4004", 136, 384, 44_100),  # layer I, 128 kbit/s, in units of 4 bytes
    ],
)
def test_headers(head: str, num_bytes: int, num_samples: int, rate: int) -> None:
    frame = parse_header(bytes.fromhex(head))
    assert frame is not None
    assert (frame.num_bytes, frame.num_samples, frame.sample_rate) == (num_bytes, num_samples, rate)


@pytest.mark.parametrize(
    "head", ["fffbf064", "fffb9c64", "ffeb9064", "fff99064", "00fb9064", "fffb"]
)
def test_invalid_headers(head: str) -> None:
    assert parse_header(bytes.fromhex(head)) is None
