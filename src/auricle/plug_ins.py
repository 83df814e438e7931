"""Entry points by which other installed packages add to the library; nothing loads unasked."""

from __future__ import annotations

import dataclasses
import logging
from functools import cache
from typing import Any, TypeVar

from auricle.errors import PlugInError

FAMILY_GROUP = "auricle.families"
RECORD_GROUP = "auricle.records"

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PlugIn:
    """One entry point of another package; its name is what it adds."""

    entry_point: Any  # an importlib.metadata.EntryPoint, whose module takes long to import

    @property
    def name(self) -> str:
        """The stem of the family, or the name of the record, that it adds."""
        return str(self.entry_point.name)

    @property
    def distribution(self) -> str:
        """The name of the package that brings it, as pip has it."""
        # Not every finder of packages tells which one an entry point is from.
        return str(self.entry_point.dist.name) if self.entry_point.dist else "an unnamed package"

    def __str__(self) -> str:
        version = f" {self.entry_point.dist.version}" if self.entry_point.dist else ""
        group, value = self.entry_point.group, self.entry_point.value
        return f"{self.distribution}{version}, entry point {self.name} = {value} of {group}"

    def broken(self, reason: object) -> PlugInError:
        """The error to raise for a plug-in that is of no use."""
        return PlugInError(
            f"the plug-in {self.name} ({self}) is broken: {reason}; mend or uninstall "
            f"{self.distribution}"
        )

    def load(self, kind: type[T]) -> T:
        """What the entry point names; imports its module.

        Raises:
            PlugInError: The module cannot be imported, or holds something else than a `kind`.
        """
        try:
            loaded = self.entry_point.load()
        except Exception as error:  # somebody else's module may raise anything
            raise self.broken(described(error)) from error
        if not isinstance(loaded, kind):
            raise self.broken(
                f"it is a {type(loaded).__name__}, expected {kind.__module__}.{kind.__name__}"
            )
        return loaded


def described(error: Exception) -> str:
    """An error of somebody else's code, in a line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@cache
def plug_ins(group: str) -> dict[str, tuple[PlugIn, ...]]:
    """The plug-ins of a group by name, in order of name; more than one where names clash.

    Read from what is installed, once in a process; imports none of them.
    """
    from importlib.metadata import entry_points

    try:
        found = [PlugIn(entry_point) for entry_point in entry_points(group=group)]
        found.sort(key=lambda plug_in: (plug_in.name, str(plug_in)))
    except Exception as error:  # whatever a damaged package makes the reader of metadata raise
        logger.warning(
            "the entry points of installed packages cannot be read, so there are no plug-ins: %s",
            described(error),
        )
        return {}
    by_name: dict[str, tuple[PlugIn, ...]] = {}
    for plug_in in found:
        by_name[plug_in.name] = (*by_name.get(plug_in.name, ()), plug_in)
    return by_name


def find_plug_in(group: str, name: str) -> PlugIn | None:
    """The one plug-in of a group that has a name; None where none has.

    Raises:
        PlugInError: Several packages claim the name.
    """
    claims = plug_ins(group).get(name, ())
    if len(claims) > 1:
        raise PlugInError(
            f"several plug-ins are called {name}: {'; '.join(map(str, claims))}; uninstall all but "
            "one of them"
        )
    return claims[0] if claims else None
