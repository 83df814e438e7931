"""Levels that hint at a mistake: channels that cancel, samples that are not scaled, silence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from auricle.audio.notes import note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PEAK = 8.0
"""Float recordings overshoot full scale, 1, by some dB; what is 18 dB over is not scaled to it."""

MIN_MIX = 0.05
"""Share of the energy that the mean of unrelated channels would have, below which they cancel."""


def note_scale(name: str, peak: float) -> None:
    """Say that samples are in the range of integers, where they are."""
    if MAX_PEAK < peak < math.inf:
        note(
            "scale",
            f"{name}: float samples reach {peak:g}, but full scale is 1: divide them by 32768 if "
            "they are 16-bit integers",
        )


class Levels:
    """The levels of a file, block after block."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._channel_energy = 0.0
        self._mean_energy = 0.0
        self._num_channels = 1

    def add(self, decoded: NDArray[np.float32], mono: NDArray[np.float32], is_mean: bool) -> None:
        """Count a block (S, channels), and what was made of it (S,)."""
        import numpy as np

        if len(mono):
            self._peak = max(self._peak, float(mono.max()), -float(mono.min()))
        if is_mean:
            self._num_channels = max(self._num_channels, decoded.shape[1])
            self._channel_energy += float(np.vdot(decoded, decoded)) / decoded.shape[1]
            self._mean_energy += float(np.vdot(mono, mono))

    def note(self, name: str, *, is_whole: bool) -> None:
        """Say what is odd of a file; of a part of one, not that it is silent."""
        unrelated = self._channel_energy / self._num_channels
        if self._num_channels > 1 and self._mean_energy < MIN_MIX * unrelated:
            note(
                "channels",
                f"{name}: its {self._num_channels} channels cancel each other in their mean, of "
                "which little is left: choose one (channel=0, or --channel 0)",
            )
        elif self._peak == 0 and is_whole:
            note("silence", f"{name} is silent: all of its samples are 0")
        note_scale(name, self._peak)
