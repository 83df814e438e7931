"""What panels share; what each shows is tested on whole pictures."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from auricle.plotting import panels


@pytest.mark.parametrize(
    ("values", "extend"),
    [
        ([-1.0, 1.0], "neither"),
        ([-1.0 - 1e-7, 1.0 + 1e-7], "neither"),  # rounding
        ([-1.0, 1.5], "max"),
        ([-1.5, 1.0], "min"),
        ([-1.5, 1.5], "both"),
    ],
)
def test_a_colour_bar_tells_that_values_go_on(values: list[float], extend: str) -> None:
    panel, side = Figure().subplots(1, 2)
    image = panel.imshow([values], vmin=-1, vmax=1)
    panels._draw_colour_bar(side, image, "ln power")
    assert image.colorbar.extend == extend
    assert image.colorbar.ax.get_ylabel() == "ln power"


def test_end_colours_are_percentiles_unless_all_is_about_the_same() -> None:
    values = np.arange(101.0)
    assert panels._limits(values, (-7.0, 7.0)) == (1, 99)
    assert panels._limits(np.full(9, 0.3), (-7.0, 7.0)) == (-7, 7)
    assert panels._limits(0.3 + 1e-6 * values / 100, (-7.0, 7.0)) == (-7, 7)
    assert panels._limits(np.zeros(9), (0.0, 1.0)) == (0, 1)
