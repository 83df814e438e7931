from __future__ import annotations

import io
import os

import pytest

from auricle.audio.splicing import spliced


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
