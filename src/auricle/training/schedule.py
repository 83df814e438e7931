"""The learning rate, as a function of the step alone: nothing of it needs saving."""

from __future__ import annotations

import math

from auricle.training.recipe import ScheduleOptions


def learning_rate(step: int, num_steps: int, highest: float, options: ScheduleOptions) -> float:
    """Learning rate of the update that follows `step` updates, of `num_steps` in all.

    It grows from above 0 to `highest`, which the first update after the warm-up has, and falls to
    `final_fraction` of it, which the last update of all has, unless the schedule is constant.
    """
    if step < options.warmup_steps:
        return highest * (step + 1) / (options.warmup_steps + 1)
    if options.kind == "constant":
        return highest
    span = max(num_steps - 1 - options.warmup_steps, 1)
    progress = min((step - options.warmup_steps) / span, 1.0)
    if options.kind == "linear":
        remaining = 1.0 - progress
    else:
        remaining = (1.0 + math.cos(math.pi * progress)) / 2
    return highest * (options.final_fraction + (1.0 - options.final_fraction) * remaining)
