from __future__ import annotations

import math

import numpy as np
import pytest

from auricle.audio.files import checked_rate, resample
from auricle.errors import AudioError

RATES = [8_000, 11_025, 12_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000, 15_999.5]


def tone(hertz: float, rate: float, num_samples: int) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(num_samples) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [100, 1000, 3000])
def test_a_tone_keeps_frequency_phase_and_amplitude(rate: float, hertz: float) -> None:
    ours = resample(tone(hertz, rate, int(rate)), rate, 16_000)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours[400:-400], tone(hertz, 16_000, len(ours))[400:-400], atol=1e-5)


@pytest.mark.parametrize("hertz", [8200, 12_000, 20_000])
def test_no_aliases(hertz: float) -> None:
    ours = resample(tone(hertz, 44_100, 44_100), 44_100, 16_000)
    assert np.abs(ours[800:-800]).max() < 1e-6


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("num_samples", [1, 2, 3, 441, 1000, 44_101, 700_001])
def test_length_is_rounded_half_up(rate: float, num_samples: int) -> None:
    expected = math.floor(num_samples * 16_000 / rate + 0.5)
    assert len(resample(np.zeros(num_samples, np.float32), rate, 16_000)) == expected


def test_deterministic_and_untouched_at_the_same_rate() -> None:
    samples = tone(440, 44_100, 30_000)
    assert resample(samples, 44_100, 44_100.0) is samples
    first, second = (resample(samples, 44_100, 16_000) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "rate", [0, -16_000, float("nan"), float("inf"), True, None, "16000", 16, 999.9, 16_000j]
)
def test_bad_rates(rate: object) -> None:
    with pytest.raises(AudioError, match=r"the sample rate is .*at least 1000 in Hz: pass"):
        checked_rate(rate)
    with pytest.raises(AudioError, match="the sample rate is"):
        resample(np.zeros(9, np.float32), rate, 16_000)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="the sample rate is"):
        resample(np.zeros(9, np.float32), 16_000, rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [1000, 16_000.0, np.int64(8000), np.float32(22_050)])
def test_good_rates(rate: float) -> None:
    assert checked_rate(rate) == rate
    assert type(checked_rate(rate)) is float
