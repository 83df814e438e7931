"""Bundled speech; `speech/README.md` states its origin and licence."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

SAMPLE_NAMES = ("2911-12359-0007.flac", "4051-11218-0044.flac")
"""A lower voice of 5.1 s and a higher one of 11.2 s: 16 kHz, 16 bit, mono."""


def sample_paths() -> list[Path]:
    """Paths of the bundled LibriSpeech utterances (Panayotov et al. 2015, CC BY 4.0)."""
    speech = resources.files("auricle.audio") / "speech"
    return [Path(str(speech / name)) for name in SAMPLE_NAMES]
