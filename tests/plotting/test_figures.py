from __future__ import annotations

import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from auricle.errors import MissingExtraError, OutputError
from auricle.plotting import figures as module
from auricle.plotting.figures import check_plotting, every_script, save_figure


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
    with pytest.warns(UserWarning, match="a.png has boxes for letters") as caught:
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
