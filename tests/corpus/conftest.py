"""Small audio files and archives of them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.corpus.tables import list_table
from auricle.corpus.utterance import Listing, Scope

AudioBytes = Callable[..., bytes]


def _audio_bytes(num_samples: int = 160, seed: int = 0, rate: int = 16_000) -> bytes:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, num_samples)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV")
    return buffer.getvalue()


@pytest.fixture
def audio_bytes() -> AudioBytes:
    """The bytes of a 16-bit WAV file of noise."""
    return _audio_bytes


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., list[Path]]:
    """Empty files below the test's folder: listing opens none of them."""

    def make(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return paths

    return make


@pytest.fixture
def make_tar(tmp_path: Path) -> Callable[..., Path]:
    """An archive below the test's folder: name -> contents, or a whole header without contents."""

    def make(name: str, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w") as archive:
            for member, contents in members:
                info = tarfile.TarInfo(member) if isinstance(member, str) else member
                info.size = len(contents)
                archive.addfile(info, io.BytesIO(contents))
        return path

    return make


def listed(path: Path, text: str | bytes, scope: Scope | None = None) -> Listing:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list_table(str(path), scope or Scope())


def rows_of(listing: Listing) -> list[tuple[str, float, float | None, int | None]]:
    return [(u.id, u.start, u.seconds, u.channel) for u in listing.utterances]
