from __future__ import annotations

import pytest

from auricle.training.recipe import ScheduleOptions
from auricle.training.schedule import learning_rate


def rates(options: ScheduleOptions, num_steps: int = 11) -> list[float]:
    return [learning_rate(step, num_steps, 2.0, options) for step in range(num_steps)]


def test_along_a_line() -> None:
    options = ScheduleOptions(kind="linear", warmup_steps=2)
    expected = [2 / 3, 4 / 3, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert rates(options) == pytest.approx(expected)


def test_along_half_a_cosine_to_a_fraction() -> None:
    values = rates(ScheduleOptions(kind="cosine", final_fraction=0.1))
    assert values[0] == 2.0
    assert values[5] == pytest.approx(2 * 0.55)
    assert values[10] == pytest.approx(0.2)
    assert values == sorted(values, reverse=True)


def test_level() -> None:
    assert rates(ScheduleOptions(kind="constant", warmup_steps=1)) == [1.0, *[2.0] * 10]


def test_past_the_last_step_it_stays() -> None:
    assert learning_rate(50, 11, 2.0, ScheduleOptions(final_fraction=0.5)) == 1.0


def test_a_warmup_that_never_ends() -> None:
    assert rates(ScheduleOptions(warmup_steps=11)) == sorted(
        rates(ScheduleOptions(warmup_steps=11))
    )
