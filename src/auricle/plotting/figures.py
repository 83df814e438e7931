"""Figures: checks for matplotlib, fonts, colours, and writing to files."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from auricle.errors import OutputError
from auricle.files.atomic import write_whole
from auricle.optional import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


PICTURE_SUFFIXES = (".png", ".pdf", ".svg")
DPI = 110
MISSING_GLYPH = "Glyph .* missing"
"""Pattern of matplotlib's warning for a character that its fonts lack."""

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
"""Fallback fonts, where installed, for characters that matplotlib's own font lacks."""


def check_plotting(path: Path) -> None:
    """Check, before any work, that a picture can be drawn into `path`.

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

    Characters that no installed font has are drawn as boxes, with a warning.

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
            f"{path.name} has boxes for characters that no installed font has: install a font that "
            "has them, such as Noto Sans CJK",
            stacklevel=2,
        )


@contextlib.contextmanager
def every_script() -> Iterator[None]:
    """Add the installed fallback fonts, so that names and labels in any script can be drawn.

    Characters of no installed font are drawn as boxes.

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


NOTEBOOK_DPI = 80


def new_figure(**options: Any) -> Figure:
    """Make a matplotlib figure that IPython displays without pyplot.

    pyplot would register the figure for display, but keeps a reference to every figure.

    Args:
        **options: Arguments of `matplotlib.figure.Figure`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _notebook_figure_class()(**options)


@functools.cache
def _notebook_figure_class() -> type[Figure]:
    with optional("matplotlib", "drawing"):
        from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            with every_script():
                self.savefig(content, format="png", dpi=NOTEBOOK_DPI)
            return content.getvalue()

    return NotebookFigure


LIGHTNESS = (28.0, 92.0)
"""CIE L* of the lowest and the highest value."""

BLUE_YELLOW = (-42.0, 55.0)
"""CIE b* likewise; a* is 0."""

DARK_TEXT_ABOVE = 55.0
"""CIE L* of a background above which black text is easier to read than white."""

GOLDEN = (5**0.5 - 1) / 2
SILVER = 2**0.5 - 1
"""Multiples of these, modulo 1, are spread evenly however many there are."""

WHITE_D65 = (0.95047, 1.0, 1.08883)
XYZ_TO_SRGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
"""IEC 61966-2-1, linear part."""


def two_numbers_as_colour(
    light: NDArray[np.floating[Any]], yellow: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Map two arrays (...) in [0, 1] to sRGB (..., 3): lightness, and blue to yellow.

    Readers with red-green colour blindness see the same, and grey print keeps the lightness.
    """
    lightness = LIGHTNESS[0] + light * (LIGHTNESS[1] - LIGHTNESS[0])
    blueness = BLUE_YELLOW[0] + yellow * (BLUE_YELLOW[1] - BLUE_YELLOW[0])
    return lab_to_srgb(lightness, np.zeros_like(lightness), blueness)


def code_colours(codes: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Map codes (...) to sRGB (..., 3): equal codes have equal colours.

    Consecutive codes are far apart in lightness. There are more codes than distinguishable
    colours, so equal colours are a hint, not a proof.
    """
    return two_numbers_as_colour(codes * GOLDEN % 1.0, codes * SILVER % 1.0)


def code_is_light(code: int) -> bool:
    """Return true if black text has more contrast than white on the colour of a code."""
    lightness = LIGHTNESS[0] + code * GOLDEN % 1.0 * (LIGHTNESS[1] - LIGHTNESS[0])
    return lightness > DARK_TEXT_ABOVE


def lab_to_srgb(
    lightness: NDArray[np.floating[Any]],
    a: NDArray[np.floating[Any]],
    b: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Convert CIELAB (D65) to sRGB (..., 3), clipped to [0, 1]."""
    y = (lightness + 16) / 116
    roots = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    linear_part = 3 * (6 / 29) ** 2 * (roots - 4 / 29)
    xyz = np.where(roots > 6 / 29, roots**3, linear_part) * np.asarray(WHITE_D65)
    linear = np.clip(xyz @ np.asarray(XYZ_TO_SRGB).T, 0, 1)
    result: NDArray[np.float64] = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return result


SIZE_INCHES = (8.0, 4.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """Scores of the layers of one model, in percent or as they are, each with its interval."""

    model: str
    layers: Sequence[str]
    values: Sequence[float]
    intervals: Sequence[tuple[float, float]] = ()
    default_layer: str


def draw_curves(
    curves: Sequence[Curve], title: str, score: str, baseline: float, baseline_name: str
) -> Figure:
    """Figure of a score over layers, for one or more models.

    The layers of a single model are named on the axis. Several models share an axis that counts
    layers from the first one probed; a model with a single layer is a dashed horizontal line. A
    ring marks the default layer.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_plotting(Path("figure.png"))
    with optional("matplotlib", "drawing"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    panel = figure.add_subplot()
    for index, curve in enumerate(curves):
        _draw_model(panel, curve, f"C{index % 10}", is_level=len(curves) > 1)
    longest = max(curves, key=lambda curve: len(curve.layers))
    places = range(len(longest.layers))
    if len(curves) == 1:
        panel.set_xticks(places, longest.layers, rotation=30, ha="right")
    else:
        panel.set_xticks(places, [str(place + 1) for place in places])
    panel.axhline(baseline, color="0.6", linestyle=":", label=baseline_name)
    panel.set_xlabel("layer")
    panel.set_ylabel(score)
    panel.set_title(title)
    panel.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def _draw_model(panel: Axes, curve: Curve, colour: str, *, is_level: bool) -> None:
    label = curve.model.replace("$", r"\$")  # no mathtext
    lows, highs = zip(*curve.intervals, strict=True) if curve.intervals else ((), ())
    if is_level and len(curve.values) == 1:
        panel.axhline(curve.values[0], color=colour, linestyle="--", label=label)
        for low, high in curve.intervals:
            panel.axhspan(low, high, color=colour, alpha=0.1)
        return
    places = range(len(curve.values))
    panel.plot(places, curve.values, color=colour, marker=".", label=label)
    if curve.intervals:
        panel.fill_between(places, lows, highs, color=colour, alpha=0.1)
        panel.vlines(places, lows, highs, color=colour, linewidth=1)
    for place, layer in enumerate(curve.layers):
        if layer == curve.default_layer:
            value = curve.values[place]
            panel.plot(place, value, "o", color=colour, fillstyle="none", markersize=10)
