"""Figures as files: what must be there to draw one, and how it is written."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import OutputError
from auricle.files.atomic import write_whole
from auricle.optional import optional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_SUFFIXES = (".png", ".pdf", ".svg")
DPI = 110
MISSING_GLYPH = "Glyph .* missing"
"""What matplotlib warns of for each letter that its fonts lack."""

FONTS_OF_MORE_SCRIPTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Nirmala UI",
    "Arial Unicode MS",
)
"""Taken, where they are installed, for letters that matplotlib's own font lacks."""


def check_plotting(path: Path) -> None:
    """Find out before any work whether a picture can be drawn into `path`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: The name has none of the endings that pictures may have.
    """
    check_matplotlib()
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise OutputError(
            f"cannot draw into {path}: expected a name that ends in {', '.join(PICTURE_SUFFIXES)}"
        )


def check_matplotlib() -> None:
    """Raise MissingExtraError where matplotlib is not installed or does not import."""
    with optional("matplotlib", "drawing"):
        import matplotlib.figure
        import matplotlib.font_manager  # noqa: F401 - asks only whether it works


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the ending of `path` names.

    Letters that no font of this machine has are boxes, with a warning.

    Raises:
        OutputError: It cannot be written; nothing half-written is left.
    """
    caught: list[warnings.WarningMessage] = []

    def write(temporary: Path) -> None:
        with every_script(), warnings.catch_warnings(record=True) as own:
            warnings.simplefilter("always")
            figure.savefig(temporary, format=path.suffix.lower().lstrip("."), dpi=DPI)
        caught.extend(own)

    write_whole(path, write)
    others = [one for one in caught if not re.match(MISSING_GLYPH, str(one.message))]
    for one in others:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if len(others) < len(caught):
        warnings.warn(
            f"{path.name} has boxes for letters that no font here has: install one with them, such "
            "as Noto Sans CJK",
            stacklevel=2,
        )


@contextlib.contextmanager
def every_script() -> Iterator[None]:
    """Draw names of files and labels in the scripts that this machine has fonts for.

    Letters of no font are boxes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with optional("matplotlib", "drawing"):
        from matplotlib import font_manager, rc_context, rcParams
    installed = set(font_manager.get_font_names())
    more = [name for name in FONTS_OF_MORE_SCRIPTS if name in installed]
    with warnings.catch_warnings(), rc_context({"font.family": [*rcParams["font.family"], *more]}):
        warnings.filterwarnings("ignore", MISSING_GLYPH, UserWarning)
        yield
