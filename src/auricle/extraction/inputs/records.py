"""What listing an input gives: utterances, and what is wrong with the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from auricle.errors import AudioError
from auricle.extraction.utterances import Utterance

ProblemKind: TypeAlias = Literal["missing", "escape", "unreadable"]
"""The audio is not there; it lies outside of the root; the row does not say what it must."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A row of an input that is no utterance, and why.

    Attributes:
        kind: In one word.
        manifest: The file that lists it, or the input itself.
        line: Its line, or row of a table without lines, counted from 1; None where there is none.
        id: Its id, "" where that is not known.
        source: The audio it means, "" where that is not known.
        reason: What was got, what was expected, what to do.
    """

    kind: ProblemKind
    manifest: str
    line: int | None = None
    id: str = ""
    source: str = ""
    reason: str

    def __str__(self) -> str:
        place = self.manifest if self.line is None else f"{self.manifest}, line {self.line}"
        return f"{place}: {self.reason}"


@dataclasses.dataclass(kw_only=True, slots=True)
class Listing:
    """Utterances in the order of the inputs, and the rows that are none.

    `known_seconds` holds, by id, what a list tells of the length of audio that is read whole. It
    serves planning alone: lists round.
    """

    utterances: list[Utterance] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    known_seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def extend(self, other: Listing) -> None:
        """Append what another listing holds."""
        self.utterances += other.utterances
        self.problems += other.problems
        self.known_seconds.update(other.known_seconds)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What holds for all inputs of one listing.

    `root` is the folder that no path may leave, None for each list's own; `channel` is taken where
    a list names none. With `ids_by_path` ids that are made of paths are made of the whole path, as
    the input gives it, not of what lies below the input's folder.
    """

    root: Path | None = None
    channel: int | None = None
    ids_by_path: bool = False


Lister: TypeAlias = Callable[[str, Scope], Listing]
"""Lists one input, given as text."""


def unreadable(path: str, error: Exception) -> AudioError:
    """The error of a list that cannot be opened or is not in its format."""
    reason = getattr(error, "strerror", None) or error
    return AudioError(f"cannot read {path}: {reason}; check the path and its format")
