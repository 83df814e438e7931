from __future__ import annotations

import numpy as np
import pytest

from auricle.plotting.colours import (
    code_colours,
    code_is_light,
    lab_to_srgb,
    two_numbers_as_colour,
)

LUMA = np.array([0.299, 0.587, 0.114])
"""What grey print makes of red, green and blue (ITU-R BT.601)."""


@pytest.mark.parametrize(
    ("lab", "srgb"),
    [
        ((0, 0, 0), (0, 0, 0)),
        ((100, 0, 0), (255, 255, 255)),
        ((53.585, 0, 0), (128, 128, 128)),
        ((53.24, 80.09, 67.20), (255, 0, 0)),
        ((97.14, -21.55, 94.48), (255, 255, 0)),
        ((32.30, 79.19, -107.86), (0, 0, 255)),
    ],
)
def test_known_colours(lab: tuple[float, ...], srgb: tuple[int, ...]) -> None:
    colour = lab_to_srgb(*(np.array(value, dtype=float) for value in lab))
    np.testing.assert_allclose(255 * colour, srgb, atol=0.6)


def test_grey_print_keeps_the_first_number() -> None:
    light = np.linspace(0, 1, 21)
    for yellow in (0.0, 0.5, 1.0):
        grey = two_numbers_as_colour(light, np.full(21, yellow)) @ LUMA
        assert (np.diff(grey) > 0.01).all()
        assert grey[-1] - grey[0] > 0.5


def test_the_second_number_goes_from_blue_to_yellow() -> None:
    half = np.full(2, 0.5)
    blue, yellow = two_numbers_as_colour(half, np.array([0.0, 1.0]))
    assert blue[2] > blue[0] + 0.2
    assert yellow[0] > yellow[2] + 0.2


def test_a_code_has_one_colour_and_neighbours_differ_in_grey() -> None:
    colours = code_colours(np.array([[3, 7, 3], [8, 3, 4]]))
    assert colours.shape == (2, 3, 3)
    np.testing.assert_array_equal(colours[0, 0], colours[1, 1])
    grey = code_colours(np.arange(320)) @ LUMA
    assert np.abs(np.diff(grey)).min() > 0.1
    assert len(np.unique(grey.round(6))) == 320


def test_names_are_read_on_their_colours() -> None:
    for code in range(100):
        grey = float(code_colours(np.array(code)) @ LUMA)
        assert abs(grey - (0.0 if code_is_light(code) else 1.0)) > 0.35, code
