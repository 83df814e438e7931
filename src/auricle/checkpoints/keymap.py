"""Weights of an original checkpoint: found in it, and renamed by tables of patterns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from auricle.errors import CheckpointError

if TYPE_CHECKING:
    from auricle.models.definition import Config

PLACEHOLDER = re.compile(r"\{(\w+)\}")

SHARED_ROWS = re.compile(r"\{(\w+(?:,\w+)+)\}")
"""Names in our pattern that share the rows of an original weight."""

WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module"}
)
"""Parts that PyTorch's wrappers (DistributedDataParallel, `torch.compile`, FullyShardedDataParallel
of today and of torch 1.11, activation checkpointing) add to keys, anywhere in them."""

TEACHER = "_ema"
"""Part of keys of the teacher of data2vec and its kin, a moving average: never the encoder."""

AVERAGES = frozenset({"ema", "swa", "averaged", "shadow"})
"""Words in the names of modules and sections that hold moving averages of weights: `model_ema`,
`ema_state_dict`, `state_dict_ema`, `averaged_model`, ..."""

MAX_PARTS = 64
"""Far above any nesting of modules; a key of a million parts must not be tried at each of them."""

OLD_PARTS = {"gamma": "weight", "beta": "bias"}
"""Names of a norm's parameters in files converted from TensorFlow, and in those of 2019."""

OPTIONAL_SUFFIX = "num_batches_tracked"
"""Batch norm's step counter: files from before torch 0.4.1 lack it, evaluation never reads it."""


@dataclasses.dataclass(frozen=True)
class Renamed:
    """Weights under our names, and the place of every original key.

    Attributes:
        weights: Our name -> weight.
        originals: Our name -> the original key it came from.
        dropped: Original keys outside of the encoder: other modules, what pretraining alone uses.
        unknown: Original keys inside the encoder's own modules that no pattern knows.
        unfamiliar: Those of `dropped` that stand beside the encoder's own modules and are on no
            list: a head of the user's own, or a part of an encoder that is not known.
        prefix: What the encoder's keys have before the names of the table, `""` or `"a.b."`, less
            the parts that wrappers add.
        averages: Prefixes of moving averages of the same weights, which are not taken.
    """

    weights: dict[str, Tensor]
    originals: dict[str, str]
    dropped: tuple[str, ...]
    unknown: tuple[str, ...]
    unfamiliar: tuple[str, ...] = ()
    prefix: str = ""
    averages: tuple[str, ...] = ()


Rule = tuple[re.Pattern[str], tuple[str, ...]]
"""A pattern, and those that take its place: one, or several that share the weight."""


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Part `index` of the rows of an original weight, of `count` equal parts."""

    key: str
    index: int
    count: int

    def of(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The part; the whole where there is one, or where the rows are not so many equal parts."""
        weight = weights[self.key]
        if self.count == 1 or not weight.dim() or len(weight) % self.count:
            return weight
        return weight.chunk(self.count)[self.index].clone()


@dataclasses.dataclass(frozen=True)
class KeyMap:
    """A table of patterns from original keys to our names.

    In a pattern `{i}`, or any name that begins with `i`, stands for a number, and `{rest}`, or
    any other name, for the rest of a key. In our pattern `{query,key,value}` stands for weights
    that lie one after the other in the rows of the original, in equal parts. Where several
    originals lead to one name, the first is the one that error messages give. A table without
    `renames` leaves names as they are.

    Attributes:
        renames: Pairs (original pattern, our pattern).
        pretraining: Patterns of originals that only pretraining uses.
    """

    renames: Sequence[tuple[str, str]]
    pretraining: Sequence[str] = ()

    def locate(self, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Renamed:
        """Find the encoder among `weights` and rename its keys.

        All of the encoder's keys share one prefix, whatever it is: the name of an attribute, or
        the nested names that a trainer's modules add. It is the one under which every expected
        weight stands.

        Args:
            weights: Original key -> weight.
            expected: Our name -> a tensor of the shape that the encoder needs.

        Returns:
            The weights under the prefix that fits, plain ones before a moving average of them;
            where none does, those under the one that has most of what is expected.

        Raises:
            CheckpointError: Several encoders that differ fit, or several keys that differ lead to
                one weight.
        """
        found = self._found(weights, expected)
        needed = {name for name in expected if not name.endswith(OPTIONAL_SUFFIX)}
        whole = [prefix for prefix, keys in found.items() if needed <= keys.keys()]
        candidates = [self._under(prefix, found[prefix], weights, expected) for prefix in whole]
        fitting = [
            renamed
            for renamed in candidates
            if not renamed.unknown
            and all(
                weight.shape == expected[name].shape for name, weight in renamed.weights.items()
            )
        ]
        if fitting:
            fitting.sort(key=lambda renamed: (_is_average(renamed.prefix), len(renamed.prefix)))
            first, *others = fitting
            differing = [other for other in others if not _same(first, other)]
            rivals = [
                one for one in differing if _is_average(one.prefix) == _is_average(first.prefix)
            ]
            if rivals:
                raise _ambiguous([first, *rivals])
            return dataclasses.replace(first, averages=tuple(one.prefix for one in differing))
        if candidates:
            return candidates[0]
        best = max(found, key=lambda prefix: len(found[prefix]), default="")
        return self._under(best, found.get(best, {}), weights, expected)

    def original(self, name: str) -> str:
        """The original key that leads to our `name`; `name` itself where no pattern does."""
        return next(self.originals(name), name)

    def originals(self, name: str) -> Iterator[str]:
        """Every original key that leads to our `name`, in the order of the table."""
        rules = [(_regex(one), (theirs,)) for theirs, ours in self.renames for one in split(ours)]
        return (first for (first,) in _matches(name, rules))

    def _found(
        self, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
    ) -> dict[str, dict[str, list[_Rows]]]:
        """Prefix -> our name -> the rows of original weights that lead to it."""
        rules = [(_regex(original), split(ours)) for original, ours in self.renames]
        heads = self._heads(expected)
        found: dict[str, dict[str, list[_Rows]]] = {}
        for key in weights:
            parts = _parts(key)
            if len(parts) > MAX_PARTS:
                continue
            for start, part in enumerate(parts):
                if part == TEACHER:
                    break
                if part not in heads:
                    continue
                names = self._names(parts[start:], rules, expected)
                for index, name in enumerate(names):
                    known = found.setdefault(_joined(parts[:start]), {})
                    known.setdefault(name, []).append(_Rows(key, index, len(names)))
        return found

    def _names(
        self, parts: Sequence[str], rules: Sequence[Rule], expected: Mapping[str, Tensor]
    ) -> tuple[str, ...]:
        """The expected names that an original key leads to: none, one, or several that share it."""
        for last in dict.fromkeys((parts[-1], OLD_PARTS.get(parts[-1], parts[-1]))):
            key = ".".join((*parts[:-1], last))
            for names in _matches(key, rules) if rules else ((key,),):
                if names[0] in expected:
                    return names
        return ()

    def _under(
        self,
        prefix: str,
        found: Mapping[str, Sequence[_Rows]],
        weights: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
    ) -> Renamed:
        """The weights under a prefix, renamed, and the place of all other keys."""
        dropping = [_regex(pattern) for pattern in self.pretraining]
        heads = self._heads(expected)
        used = {rows.key for places in found.values() for rows in places}
        dropped: list[str] = []
        unknown: list[str] = []
        unfamiliar: list[str] = []
        for key in weights:
            bare = ".".join(_parts(key))
            rest = bare.removeprefix(prefix)
            if key in used:
                continue
            if not bare.startswith(prefix) or any(one.fullmatch(rest) for one in dropping):
                dropped.append(key)
            elif rest.partition(".")[0] in heads:
                unknown.append(key)
            else:
                dropped.append(key)
                unfamiliar.append(key)
        for name, (first, *repeats) in found.items():
            for repeat in repeats:
                if not _equal(first.of(weights), repeat.of(weights)):
                    raise CheckpointError(
                        f"{first.key} and {repeat.key} both stand for {self.original(name)} and "
                        "must be the same tensor, but they differ"
                    )
        return Renamed(
            weights={name: places[0].of(weights) for name, places in found.items()},
            originals={name: places[0].key for name, places in found.items()},
            dropped=tuple(dropped),
            unknown=tuple(unknown),
            unfamiliar=tuple(unfamiliar),
            prefix=prefix,
        )

    def _heads(self, names: Iterable[str]) -> frozenset[str]:
        """First parts of the keys of the encoder's own modules."""
        patterns = [original for original, _ in self.renames] or names
        return frozenset(pattern.partition(".")[0] for pattern in patterns)


@dataclasses.dataclass(frozen=True)
class Converted:
    """An original checkpoint, read.

    Attributes:
        config: The family's configuration.
        weights: The original keys and weights.
        keymap: How the keys lead to our names.
    """

    config: Config
    weights: Mapping[str, Tensor]
    keymap: KeyMap


def has_part(weights: Iterable[object], *parts: str) -> bool:
    """Return whether a key has these parts in succession, anywhere in it."""
    wanted = f".{'.'.join(parts)}."
    return any(wanted in f".{'.'.join(_parts(str(key)))}." for key in weights)


def unwrapped(key: str) -> str:
    """A key less the parts that wrappers add."""
    return ".".join(_parts(key))


def _parts(key: str) -> list[str]:
    """A key's parts less those that wrappers add."""
    return [part for part in key.split(".") if part not in WRAPPERS]


def _joined(parts: Sequence[str]) -> str:
    return "".join(f"{part}." for part in parts)


def _is_average(prefix: str) -> bool:
    """Return whether weights under a prefix are moving averages."""
    return any(AVERAGES & set(part.lower().split("_")) for part in prefix.split("."))


def _same(first: Renamed, second: Renamed) -> bool:
    return all(_equal(first.weights[name], weight) for name, weight in second.weights.items())


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)


def _ambiguous(candidates: Sequence[Renamed]) -> CheckpointError:
    names = [repr(one.prefix.rstrip(".")) if one.prefix else "no prefix" for one in candidates]
    return CheckpointError(
        f"the checkpoint holds {len(names)} whole encoders with different weights, under "
        f"{', '.join(names)}, and nothing says which is meant; save the weights of the one you "
        "want in a file of their own"
    )


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern with placeholders."""
    parts: list[str] = []
    end = 0
    for match in PLACEHOLDER.finditer(pattern):
        parts.append(re.escape(pattern[end : match.start()]))
        parts.append(rf"(?P<{match[1]}>{r'[0-9]+' if match[1].startswith('i') else '.+'})")
        end = match.end()
    return re.compile("".join(parts) + re.escape(pattern[end:]))


def split(pattern: str) -> tuple[str, ...]:
    """The patterns that one of ours stands for, those of weights that share rows."""
    match = SHARED_ROWS.search(pattern)
    if match is None:
        return (pattern,)
    before, after = pattern[: match.start()], pattern[match.end() :]
    return tuple(f"{before}{name}{after}" for name in match[1].split(","))


def _matches(key: str, rules: Iterable[Rule]) -> Iterator[tuple[str, ...]]:
    """The new names of `key` by each rule that knows it, in their order."""
    for pattern, replacements in rules:
        if match := pattern.fullmatch(key):
            yield tuple(one.format(**match.groupdict()) for one in replacements)
