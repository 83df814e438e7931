"""Options of original configurations: read by name, checked, never guessed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from auricle.errors import CheckpointError

T = TypeVar("T")
Choice = TypeVar("Choice", bound=str)


class Options:
    """A section of an original configuration.

    Values are converted as YAML's loose types ask for (`"1e-12"` is a number); a value of None
    counts as absent.
    """

    def __init__(self, section: object, where: str) -> None:
        """Wrap `section`, which error messages call `where`."""
        if not isinstance(section, Mapping):
            raise CheckpointError(
                f"{where} must be a mapping of options, but is {type(section).__name__}"
            )
        self._values: dict[str, Any] = {
            str(key): value for key, value in section.items() if value is not None
        }
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, kind: type[T], default: T) -> T:
        """The option as a `kind`, or `default` where it is absent."""
        return self.require(name, kind) if name in self._values else default

    def require(self, name: str, kind: type[T]) -> T:
        """The option as a `kind`.

        Raises:
            CheckpointError: It is absent or cannot be read as a `kind`.
        """
        if name not in self._values:
            raise CheckpointError(
                f"{self._where} lacks {name}; it has {', '.join(self._values) or 'nothing'}"
            )
        try:
            return msgspec.convert(self._values[name], kind, strict=False)
        except msgspec.ValidationError as error:
            raise CheckpointError(f"{self._where}.{name}: {error}") from error

    def choice(self, name: str, choices: Sequence[Choice], default: Choice | None) -> Choice:
        """The option, which must be one of `choices`; a `default` of None makes it required."""
        value = self.require(name, str) if default is None else self.get(name, str, default)
        for choice in choices:
            if choice == value:
                return choice
        raise CheckpointError(
            f"{self._where}.{name} must be one of {', '.join(choices)}, but is {value!r}"
        )

    def section(self, name: str) -> Options:
        """The section under `name`; an empty one where it is absent."""
        return Options(self._values.get(name, {}), f"{self._where}.{name}")

    def without(self, names: Collection[str]) -> Options:
        """This section less the options `names`."""
        rest = {name: value for name, value in self._values.items() if name not in names}
        return Options(rest, self._where)

    def error(self, problem: str) -> CheckpointError:
        """An error about this section as a whole."""
        return CheckpointError(f"{self._where} {problem}")

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise CheckpointError where an option is not among `known`."""
        unknown = [name for name in self._values if name not in known]
        if unknown:
            raise CheckpointError(
                f"{self._where} has options whose effect is not known: {', '.join(unknown)}; "
                f"expected only {', '.join(known)}"
            )

    def demand(self, name: str, expected: object, reason: str) -> None:
        """Raise CheckpointError where the option is there and is not `expected`."""
        value = self._values.get(name, expected)
        if (value == expected) is not True:  # comparing tensors gives tensors
            raise CheckpointError(
                f"{self._where}.{name} must be {expected!r}, but is {value!r}: {reason}"
            )
