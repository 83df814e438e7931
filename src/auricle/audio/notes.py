"""Things worth saying of audio that can be read: logged, and counted where there are many files."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

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
