"""Plug-ins: entry points of other installed packages, which are loaded on first use."""

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
    """One entry point of another package, named after the family or record that it adds."""

    entry_point: Any  # an importlib.metadata.EntryPoint, whose module takes long to import

    @property
    def name(self) -> str:
        """The stem of the family, or the name of the record, that it adds."""
        return str(self.entry_point.name)

    @property
    def distribution(self) -> str:
        """Name of the distribution that provides the entry point."""
        # Not every metadata finder provides the distribution of an entry point.
        return str(self.entry_point.dist.name) if self.entry_point.dist else "an unnamed package"

    def __str__(self) -> str:
        version = f" {self.entry_point.dist.version}" if self.entry_point.dist else ""
        group, value = self.entry_point.group, self.entry_point.value
        return f"{self.distribution}{version}, entry point {self.name} = {value} of {group}"

    def broken(self, reason: object) -> PlugInError:
        """Build the error for a plug-in that cannot be used."""
        return PlugInError(
            f"the plug-in {self.name} ({self}) is broken: {reason}; fix or uninstall "
            f"{self.distribution}"
        )

    def load(self, kind: type[T]) -> T:
        """Import the object that the entry point names.

        Raises:
            PlugInError: The module cannot be imported, or the object is not a `kind`.
        """
        try:
            loaded = self.entry_point.load()
        except Exception as error:  # third-party code may raise anything
            raise self.broken(described(error)) from error
        if not isinstance(loaded, kind):
            raise self.broken(
                f"it is a {type(loaded).__name__}, expected {kind.__module__}.{kind.__name__}"
            )
        return loaded


def described(error: Exception) -> str:
    """Format an exception of third-party code as type and message."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@cache
def plug_ins(group: str) -> dict[str, tuple[PlugIn, ...]]:
    """Find the plug-ins of a group by name, sorted; several per name where names clash.

    The metadata of installed packages is read once per process; no plug-in is imported.
    """
    from importlib.metadata import entry_points

    try:
        found = [PlugIn(entry_point) for entry_point in entry_points(group=group)]
        found.sort(key=lambda plug_in: (plug_in.name, str(plug_in)))
    except Exception as error:  # damaged metadata may raise anything
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
    """Find the plug-in of a group by name; None if there is none.

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
