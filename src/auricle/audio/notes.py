"""Warnings about audio that is readable but suspicious, and checks of sample values."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

MAX_SAID = 20
"""Notes of a kind that a process logs as warnings; further ones have the level INFO."""

_num_said: Counter[str] = Counter()


@dataclasses.dataclass
class Tally:
    """Notes of many files: of each kind the first, and how many there are."""

    firsts: dict[str, str] = dataclasses.field(default_factory=dict)
    counts: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count what another tally holds."""
        self.firsts = {**other.firsts, **self.firsts}
        self.counts += other.counts

    def say(self) -> None:
        """Log a line for each kind, or count them where notes are being gathered."""
        outer = _tally.get()
        if outer is not None:
            outer.add(self)
            return
        for kind, text in self.firsts.items():
            count = self.counts[kind]
            note(kind, text if count == 1 else f"{text} (the first of {count} such files)")


_tally: ContextVar[Tally | None] = ContextVar("tally", default=None)


def note(kind: str, text: str) -> None:
    """Log a warning, or count it where notes are being gathered; `kind` is what is counted."""
    tally = _tally.get()
    if tally is None:
        _num_said[kind] += 1
        logger.log(logging.WARNING if _num_said[kind] <= MAX_SAID else logging.INFO, "%s", text)
        return
    tally.firsts.setdefault(kind, text)
    tally.counts[kind] += 1


@contextmanager
def gathered() -> Iterator[Tally]:
    """Count the notes of this thread instead of logging them one by one."""
    tally = Tally()
    token = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(token)


def gathering(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate what works on many files: a line for each kind of note when it is done."""

    @functools.wraps(function)
    def gathered_function(*args: P.args, **kwargs: P.kwargs) -> R:
        tally = Tally()
        try:
            with gathered() as tally:
                return function(*args, **kwargs)
        finally:
            tally.say()

    return gathered_function


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


def peak_of(samples: Tensor) -> float:
    """The largest absolute value of (S,), S > 0; NaN or infinite where a sample is."""
    lowest, highest = torch.aminmax(samples.detach())
    return max(highest.item(), -lowest.item())


def non_finite_reason(samples: Tensor, peak: float | None = None) -> str | None:
    """Say how many samples of (S,) are NaN or infinite and where the first one is; None if none.

    The `peak` is that of the samples, where it is known already.
    """
    values = samples.detach()
    if math.isfinite(peak_of(values) if peak is None else peak):
        return None
    bad = (~torch.isfinite(values)).nonzero()
    return (
        f"{len(bad)} of {len(values)} samples are NaN or infinite as float32, the first at sample "
        f"{int(bad[0])}: repair or leave out the recording"
    )
