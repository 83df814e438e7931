"""Colours that tell two numbers: lightness, which grey print keeps, and blue against yellow.

Neither is lost on readers who do not tell red from green.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    """sRGB (..., 3) in [0, 1] of two arrays (...) in [0, 1]: lightness, and blue to yellow."""
    lightness = LIGHTNESS[0] + light * (LIGHTNESS[1] - LIGHTNESS[0])
    blueness = BLUE_YELLOW[0] + yellow * (BLUE_YELLOW[1] - BLUE_YELLOW[0])
    return lab_to_srgb(lightness, np.zeros_like(lightness), blueness)


def code_colours(codes: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """sRGB (..., 3) of codes (...): the same colour wherever the code is the same.

    Codes that follow each other in number are far apart in lightness. There are more codes than
    colours that can be told apart, so equal colours are a hint, not a proof.
    """
    return two_numbers_as_colour(codes * GOLDEN % 1.0, codes * SILVER % 1.0)


def code_is_light(code: int) -> bool:
    """Whether black text is read more easily on the colour of a code than white."""
    lightness = LIGHTNESS[0] + code * GOLDEN % 1.0 * (LIGHTNESS[1] - LIGHTNESS[0])
    return lightness > DARK_TEXT_ABOVE


def lab_to_srgb(
    lightness: NDArray[np.floating[Any]],
    a: NDArray[np.floating[Any]],
    b: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """CIELAB (D65) as sRGB (..., 3), cut to [0, 1] where the screen has no such colour."""
    y = (lightness + 16) / 116
    roots = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    linear_part = 3 * (6 / 29) ** 2 * (roots - 4 / 29)
    xyz = np.where(roots > 6 / 29, roots**3, linear_part) * np.asarray(WHITE_D65)
    linear = np.clip(xyz @ np.asarray(XYZ_TO_SRGB).T, 0, 1)
    result: NDArray[np.float64] = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return result
