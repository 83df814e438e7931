"""Warnings about suspicious audio: collection over many files, level checks, non-finite samples."""

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
"""Notes of a kind logged as warnings in a process; further ones have the level INFO."""

_num_said: Counter[str] = Counter()


@dataclasses.dataclass
class Tally:
    """Notes of many files: the first of each kind, and counts."""

    firsts: dict[str, str] = dataclasses.field(default_factory=dict)
    counts: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add the notes of another tally."""
        self.firsts = {**other.firsts, **self.firsts}
        self.counts += other.counts

    def say(self) -> None:
        """Log one line per kind, or add to the enclosing tally."""
        outer = _tally.get()
        if outer is not None:
            outer.add(self)
            return
        for kind, text in self.firsts.items():
            count = self.counts[kind]
            note(kind, text if count == 1 else f"{text} (the first of {count} such files)")


_tally: ContextVar[Tally | None] = ContextVar("tally", default=None)


def note(kind: str, text: str) -> None:
    """Log a warning, or count it in the enclosing tally; notes are counted by `kind`."""
    tally = _tally.get()
    if tally is None:
        _num_said[kind] += 1
        logger.log(logging.WARNING if _num_said[kind] <= MAX_SAID else logging.INFO, "%s", text)
        return
    tally.firsts.setdefault(kind, text)
    tally.counts[kind] += 1


@contextmanager
def gathered() -> Iterator[Tally]:
    """Collect the notes of this thread in a tally instead of logging them."""
    tally = Tally()
    token = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(token)


def gathering(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator for functions on many files: logs one line per kind of note at the end."""

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
"""Largest plausible peak: float recordings exceed full scale, 1, by some dB but not by 18 dB."""

MIN_MIX = 0.05
"""Least energy of the mean of channels, relative to unrelated channels; below it they cancel."""


def note_scale(name: str, peak: float) -> None:
    """Warn if the peak is in the range of integer samples."""
    if MAX_PEAK < peak < math.inf:
        note(
            "scale",
            f"{name}: float samples reach {peak:g}, but full scale is 1: divide them by 32768 if "
            "they are 16-bit integers",
        )


class Levels:
    """Peak and energies of a file, accumulated over blocks."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._channel_energy = 0.0
        self._mean_energy = 0.0
        self._num_channels = 1

    def add(self, decoded: NDArray[np.float32], mono: NDArray[np.float32], is_mean: bool) -> None:
        """Add a block (S, channels) and its mono samples (S,)."""
        import numpy as np

        if len(mono):
            self._peak = max(self._peak, float(mono.max()), -float(mono.min()))
        if is_mean:
            self._num_channels = max(self._num_channels, decoded.shape[1])
            self._channel_energy += float(np.vdot(decoded, decoded)) / decoded.shape[1]
            self._mean_energy += float(np.vdot(mono, mono))

    def note(self, name: str, *, is_whole: bool) -> None:
        """Warn about cancelling channels, silence of a whole file, and unscaled samples."""
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
    """Largest absolute value of (S,), S > 0; NaN or infinite if a sample is."""
    lowest, highest = torch.aminmax(samples.detach())
    return max(highest.item(), -lowest.item())


def non_finite_reason(samples: Tensor, peak: float | None = None) -> str | None:
    """Message with the count and first index of NaN or infinite samples of (S,); None if finite.

    `peak` is that of the samples, if already computed.
    """
    values = samples.detach()
    if math.isfinite(peak_of(values) if peak is None else peak):
        return None
    bad = (~torch.isfinite(values)).nonzero()
    return (
        f"{len(bad)} of {len(values)} samples are NaN or infinite as float32, the first at sample "
        f"{int(bad[0])}: repair or leave out the recording"
    )
