"""Figures as files: what must be there to draw one, and how it is written."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import MissingExtraError, OutputError
from auricle.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_SUFFIXES = (".png", ".pdf", ".svg")
DPI = 110

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
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401 - asks only whether it is there
    except ImportError as error:
        raise MissingExtraError(
            "drawing needs matplotlib, which is not installed; run pip install matplotlib"
        ) from error


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the ending of `path` names.

    Raises:
        OutputError: It cannot be written; nothing half-written is left.
    """

    def write(temporary: Path) -> None:
        with every_script():
            figure.savefig(temporary, format=path.suffix.lower().lstrip("."), dpi=DPI)

    write_whole(path, write)


@contextlib.contextmanager
def every_script() -> Iterator[None]:
    """Draw names of files and labels in the scripts that this machine has fonts for.

    Letters of no font are boxes, without a word.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib import font_manager, rc_context, rcParams

    installed = set(font_manager.get_font_names())
    more = [name for name in FONTS_OF_MORE_SCRIPTS if name in installed]
    with warnings.catch_warnings(), rc_context({"font.family": [*rcParams["font.family"], *more]}):
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield
