"""Names of weights: from an original checkpoint's to ours, as tables of patterns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(frozen=True)
class Renamed:
    """Weights under our names, and what became of every original key.

    Attributes:
        weights: Our name -> weight.
        originals: Our name -> the original key it came from.
        dropped: Original keys that belong to pretraining only.
        unknown: Original keys that no pattern knows.
    """

    weights: dict[str, Tensor]
    originals: dict[str, str]
    dropped: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class KeyMap:
    """A table of patterns from original keys to our names.

    In a pattern `{i}`, or any name that begins with `i`, stands for a number, and `{rest}`, or
    any other name, for the rest of a key. Where several originals lead to one name, the first
    is the one that error messages give.

    Attributes:
        renames: Pairs (original pattern, our pattern).
        pretraining: Patterns of originals that only pretraining uses.
    """

    renames: Sequence[tuple[str, str]]
    pretraining: Sequence[str] = ()

    def apply(self, weights: Mapping[str, Tensor]) -> Renamed:
        """Rename every key of `weights` that a pattern knows."""
        rules = [(_regex(original), ours) for original, ours in self.renames]
        dropping = [_regex(original) for original in self.pretraining]
        renamed: dict[str, Tensor] = {}
        originals: dict[str, str] = {}
        dropped: list[str] = []
        unknown: list[str] = []
        for key, weight in weights.items():
            name = _first_match(key, rules)
            if name is not None and name not in renamed:
                renamed[name] = weight
                originals[name] = key
            elif any(pattern.fullmatch(key) for pattern in dropping):
                dropped.append(key)
            else:
                unknown.append(key)
        return Renamed(renamed, originals, tuple(dropped), tuple(unknown))

    def original(self, name: str) -> str:
        """The original key that leads to our `name`; `name` itself where no pattern does."""
        return _first_match(name, [(_regex(ours), theirs) for theirs, ours in self.renames]) or name


def _regex(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern with placeholders."""
    parts: list[str] = []
    end = 0
    for match in PLACEHOLDER.finditer(pattern):
        parts.append(re.escape(pattern[end : match.start()]))
        parts.append(rf"(?P<{match[1]}>{r'[0-9]+' if match[1].startswith('i') else '.+'})")
        end = match.end()
    return re.compile("".join(parts) + re.escape(pattern[end:]))


def _first_match(key: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, replacement in rules:
        if match := pattern.fullmatch(key):
            return replacement.format(**match.groupdict())
    return None
