"""Data of a picture: an utterance, its representations and its labels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from auricle.corpus.utterance import Segment
from auricle.geometry import FrameGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameSequence:
    """Frames (T, D) of an utterance, or codes (T, K), and their geometry in samples."""

    frames: NDArray[Any]
    geometry: FrameGeometry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Representation:
    """One layer of one encoder.

    `sorts_dims` draws correlated dimensions side by side; false keeps the order of dimensions that
    is meaningful, such as that of frequency bands. `codes` are those of the encoder's quantiser, if
    it has one.
    """

    model: str
    layer: str
    sequence: FrameSequence
    codes: FrameSequence | None = None
    sorts_dims: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnUtterance:
    """A waveform (S,) at `sample_rate` in Hz, with spectrogram, representations and labels.

    `mel` holds HTK mel bands in natural logarithm from 0 Hz to half the rate. `origin` is where the
    waveform begins in its recording, in seconds: times are counted from the start of the recording.
    `section` is the part that is shown; None for all. Representations are those of the whole
    waveform.
    """

    title: str
    waveform: NDArray[np.float32]
    sample_rate: int
    mel: FrameSequence
    representations: tuple[Representation, ...]
    segments: tuple[Segment, ...] = ()
    section: tuple[float, float] | None = None
    origin: float = 0.0

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.sample_rate

    @property
    def shown(self) -> tuple[float, float]:
        """Start and end of the section that is shown, in seconds."""
        return self.section or (self.origin, self.origin + self.seconds)

    def start_seconds(self, sequence: FrameSequence) -> float:
        """Left edge of the first frame: half a hop before the centre of its window."""
        geometry = sequence.geometry
        centre = geometry.start_samples + geometry.window_samples / 2
        return self.origin + (centre - geometry.hop_samples / 2) / self.sample_rate
