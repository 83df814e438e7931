"""From one sample rate to another."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING

from auricle.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUALITY = "VHQ"
"""soxr's recipe with 28 bits of precision: its error lies below the rounding of float32."""

LOWEST_RATE_HZ = 1000
"""No speech is sampled below it; a smaller number is kHz or seconds given by mistake."""


def resample(
    samples: NDArray[np.float32], source_rate: float, target_rate: float
) -> NDArray[np.float32]:
    """Band-limited resampling of one waveform, the same on every run.

    `samples` is (S,). The result has `S * target_rate / source_rate` samples, rounded half up; it
    starts at the same instant and is `samples` itself where the rates agree. Content above the
    lower of the two Nyquist frequencies is removed; the passband ends at about 0.91 of it.

    Raises:
        AudioError: A rate is not a number of Hz from `LOWEST_RATE_HZ` up.
    """
    import soxr

    source_hz, target_hz = checked_rate(source_rate), checked_rate(target_rate)
    if source_hz == target_hz:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, source_hz, target_hz, quality=QUALITY)
    return resampled


def checked_rate(rate: object) -> float:
    """The sample rate in Hz; AudioError if it is not a finite number that speech may have."""
    if isinstance(rate, numbers.Real):
        hertz = float(rate)
        if math.isfinite(hertz) and hertz >= LOWEST_RATE_HZ:
            return hertz
    raise AudioError(
        f"the sample rate is {rate!r}, expected a number of at least {LOWEST_RATE_HZ} in Hz: "
        "pass for example 16000"
    )
