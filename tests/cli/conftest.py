"""Small audio files, and a checkpoint, for the command line to work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.__main__ import main

SaveWave = Callable[..., Path]


@pytest.fixture
def save_wave(tmp_path: Path) -> SaveWave:
    """A function that writes `num_samples` of noise at 16 kHz below the test's folder."""

    def save(name: str, num_samples: int = 4000, num_channels: int = 1) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(num_samples)
        samples = 0.1 * generator.standard_normal((num_samples, num_channels))
        soundfile.write(path, samples, 16_000)
        return path

    return save


@pytest.fixture(scope="session")
def tera_checkpoint() -> Path:
    """A small TERA in its authors' format."""
    return Path(__file__).parents[1] / "golden" / "cases" / "tera" / "checkpoint.ckpt"


def extract_as(*arguments: Path | str) -> int:
    return main(["extract", *map(str, arguments)])


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
