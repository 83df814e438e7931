"""Formats of original checkpoints that plug-ins bring: in the variable FORMATS of a converter."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator

from auricle.catalogue.family import FAMILIES, Family, find_family, plug_in_families
from auricle.checkpoints.formats import FORMATS, Format, Payload
from auricle.errors import PlugInError
from auricle.plug_ins import PlugIn, described

logger = logging.getLogger(__name__)


def formats_for(family: str | None) -> Iterator[Format]:
    """The formats that a checkpoint may have, in the order to try them.

    Plug-ins are imported only when their turn comes: the one that `family` is from before the
    library's formats, all of them after those where no family is named. One that is broken is
    left out with a warning then.

    Raises:
        PlugInError: The plug-in that `family` is from is broken.
    """
    if family is not None and family not in FAMILIES:
        yield from _own_formats(find_family(family))
    yield from FORMATS
    if family is not None:
        return
    families, problems = plug_in_families()
    for added in families:
        try:
            yield from _own_formats(added)
        except PlugInError as problem:
            problems.append(problem)
    for told in problems:
        logger.warning("%s", told)


def _own_formats(family: Family) -> list[Format]:
    """The formats that a plug-in's converter brings; none where it has no converter."""
    plug_in = family.plug_in
    if plug_in is None or family.converter_module_name is None:
        return []
    formats = getattr(family.converter(), "FORMATS", ())
    if not isinstance(formats, (tuple, list)) or not all(isinstance(f, Format) for f in formats):
        raise plug_in.broken(f"{family.converter_module_name}.FORMATS must be a tuple of Format")
    return [
        dataclasses.replace(layout, matches=_guarded(layout.matches, plug_in)) for layout in formats
    ]


def _guarded(matches: Callable[[Payload], bool], plug_in: PlugIn) -> Callable[[Payload], bool]:
    """`matches`, which may meet files that its author never thought of; what it raises is no."""

    def guarded(content: Payload) -> bool:
        try:
            return matches(content)
        except Exception as error:  # somebody else's code may raise anything
            logger.warning(
                "%s cannot tell whether a file is its own: %s", plug_in, described(error)
            )
            return False

    return guarded
