"""What a picture shows: an utterance, its representations, and what is said in it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from auricle.outputs import FrameGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequence:
    """Frames (T, D) of an utterance, or codes (T, K), and where they lie in its samples."""

    frames: NDArray[Any]
    geometry: FrameGeometry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of an utterance and its label, such as a phone; times in seconds."""

    start: float
    end: float
    label: str


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
class Utterance:
    """A waveform (S,) at `sample_rate` in Hz, with what is drawn below it.

    `mel` holds HTK mel bands in natural logarithm from 0 Hz to half the rate. `section` is the part
    that is shown, in seconds; None for all. Whatever is computed is that of the whole.
    """

    title: str
    waveform: NDArray[np.float32]
    sample_rate: int
    mel: Sequence
    representations: tuple[Representation, ...]
    segments: tuple[Segment, ...] = ()
    section: tuple[float, float] | None = None

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.sample_rate

    @property
    def shown(self) -> tuple[float, float]:
        """Beginning and end of what is shown, in seconds."""
        return self.section or (0.0, self.seconds)
