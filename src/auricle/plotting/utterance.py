"""What a picture shows: an utterance, its representations, and what is said in it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from auricle.corpus.utterance import Segment
from auricle.outputs import FrameGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequence:
    """Frames (T, D) of an utterance, or codes (T, K), and where they lie in its samples."""

    frames: NDArray[Any]
    geometry: FrameGeometry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Representation:
    """One layer of one encoder.

    `sorts_dims` puts dimensions that move together side by side; false keeps the order of
    dimensions that have one of their own, such as frequency bands. `codes` are those of the
    encoder's quantiser, where it has one.
    """

    model: str
    layer: str
    sequence: Sequence
    codes: Sequence | None = None
    sorts_dims: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnUtterance:
    """A waveform (S,) at `sample_rate` in Hz, with what is drawn below it.

    `mel` holds HTK mel bands in natural logarithm from 0 Hz to half the rate. `origin` is where the
    waveform begins in the recording that it was cut from, in seconds: times are counted from the
    recording's beginning. `section` is the part that is shown; None for all. Whatever is computed
    is that of the whole waveform.
    """

    title: str
    waveform: NDArray[np.float32]
    sample_rate: int
    mel: Sequence
    representations: tuple[Representation, ...]
    segments: tuple[Segment, ...] = ()
    section: tuple[float, float] | None = None
    origin: float = 0.0

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.sample_rate

    @property
    def shown(self) -> tuple[float, float]:
        """Beginning and end of what is shown, in seconds."""
        return self.section or (self.origin, self.origin + self.seconds)

    def start_seconds(self, sequence: Sequence) -> float:
        """Left edge of the first frame: half a hop before the centre of what it sees."""
        geometry = sequence.geometry
        centre = geometry.start_samples + geometry.window_samples / 2
        return self.origin + (centre - geometry.hop_samples / 2) / self.sample_rate
