"""Figures and their colours."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from auricle.errors import MissingExtraError, OutputError
from auricle.plotting import figures as module
from auricle.plotting.figures import (
    NOTEBOOK_DPI,
    Curve,
    check_plotting,
    code_colours,
    code_is_light,
    draw_curves,
    every_script,
    lab_to_srgb,
    new_figure,
    save_figure,
    two_numbers_as_colour,
)
from forks import run


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_a_figure_is_written_in_the_format_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(module, "DPI", 20)
    path = tmp_path / f"a{suffix}"
    check_plotting(path)
    figure = Figure()
    figure.suptitle("speech")
    save_figure(figure, path)
    start = {".pdf": b"%PDF", ".svg": b"<?xml"}.get(suffix, b"\x89PNG")
    assert path.read_bytes().startswith(start)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_letters_of_no_font_are_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FONTS_OF_MORE_SCRIPTS", ())
    figure = Figure()
    figure.suptitle("音声")
    with pytest.warns(UserWarning, match="a.png has boxes for characters") as caught:
        save_figure(figure, tmp_path / "a.png")
    assert len(caught) == 1


def test_letters_of_other_scripts_come_from_fonts_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from matplotlib import font_manager

    with every_script():
        names = Text(text="音声").get_fontfamily()
    assert names[0] == "sans-serif"
    assert set(names[1:]) <= set(font_manager.get_font_names())
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["Yu Gothic", "Other"])
    with every_script():
        assert Text(text="音声").get_fontfamily() == ["sans-serif", "Yu Gothic"]
    assert Text().get_fontfamily() == ["sans-serif"]


def test_other_endings_are_refused() -> None:
    with pytest.raises(OutputError, match=r"expected a name that ends in \.png, \.pdf, \.svg"):
        check_plotting(Path("a.jpg"))


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install matplotlib"):
        check_plotting(Path("a.png"))


def test_a_notebook_is_given_a_picture() -> None:
    figure = new_figure(figsize=(3, 2))
    figure.suptitle("音声")
    pixels = imread(io.BytesIO(figure._repr_png_()))
    assert pixels.shape[:2] == (2 * NOTEBOOK_DPI, 3 * NOTEBOOK_DPI)
    assert pixels.min() < 0.5


def test_ipython_shows_it_without_pyplot() -> None:
    code = (
        "import sys, torch, auricle\n"
        "from IPython.core.formatters import DisplayFormatter\n"
        "figure = auricle.plot(torch.zeros(8000), 'fbank')\n"
        "data, _ = DisplayFormatter(active_types=['text/plain', 'image/png']).format(figure)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "print(data['image/png'][:4])\n"
    )
    done = run(["-c", code])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repr(b"\x89PNG")


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


def test_intervals_are_drawn_around_the_curves_that_have_them() -> None:
    deep = Curve(
        model="deep",
        layers=["a", "b"],
        values=[1.0, 2.0],
        intervals=[(0.5, 1.5), (1.0, 2.5)],
        default_layer="b",
    )
    flat = Curve(
        model="flat", layers=["f"], values=[3.0], intervals=[(2.0, 4.0)], default_layer="f"
    )
    (axes,) = draw_curves([deep, flat], "title", "R2", 0.0, "mean").axes
    assert len(axes.collections) == 2  # band and lines of `deep`
    (lines,) = [one for one in axes.collections if hasattr(one, "get_segments")]
    assert [segment[:, 1].tolist() for segment in lines.get_segments()] == [[0.5, 1.5], [1.0, 2.5]]
    assert len(axes.patches) == 1  # band of `flat`
    assert (axes.get_title(), axes.get_ylabel()) == ("title", "R2")
    bare = Curve(model="bare", layers=["a", "b"], values=[1.0, 2.0], default_layer="none")
    (axes,) = draw_curves([bare], "title", "R2", 0.0, "mean").axes
    assert len(axes.collections) == 0
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b"]
