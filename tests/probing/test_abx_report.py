from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from auricle.errors import AuricleError
from auricle.plotting import figures
from auricle.probing.abx_report import (
    abx_lines,
    abx_settings,
    abx_table,
    add_abx,
    comparable_abx,
    draw_abx,
    read_abx,
)
from auricle.probing.items import read_item_task
from probing.conftest import ABX_SETTINGS, abx_result


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "DPI", 20)


def test_the_best_layer_has_the_least_error_across_speakers_or_within() -> None:
    two = {"a": (0.1, 0.3), "b": (0.2, 0.25), "c": (0.3, 0.4)}
    assert abx_result("m", two).best.name == "b"
    assert abx_result("m", {"a": (0.2, None), "b": (0.1, None)}).best.name == "b"
    assert abx_result("m", {"a": (None, None), "b": (0.1, None)}).best.name == "b"


def test_lines_say_what_was_found_and_how() -> None:
    one = abx_result("m", {"first": (0.12, 0.2567), "last": (0.1, None)}, skipped_layers=("z",))
    first, last = one.layers
    one = msgspec.structs.replace(
        one, layers=(first, msgspec.structs.replace(last, num_empty_items=3))
    )
    head, *layers, sizes, empty, skipped = abx_lines(one)
    assert head == "m, abx: 56 items of 7 phones and 2 speaker(s), from x.item"
    assert layers[0].split() == ["first", "8", "dims", "12.0", "%", "within", "25.7", "%", "across"]
    assert layers[1].split() == [
        "last",
        "8",
        "dims",
        "10.0",
        "%",
        "within",
        "-",
        "%",
        "across",
        "best,",
        "default",
    ]
    assert "errors of 12 and 34 cells; 7 s to encode" in sizes
    assert empty == "  last: 3 items hold no frame and are left out"
    assert skipped == "  not measured: z"


def test_a_row_for_each_model() -> None:
    results = [
        abx_result("m", {"a": (0.1, 0.2), "b": (0.3, 0.4)}),
        abx_result("n", {"a": (0.1, None)}, default_layer="z"),
    ]
    assert abx_table(results) == [
        "| model | within, best | within, default | across, best | across, default |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| `m` | 10.0 (a) | 30.0 | 20.0 (a) | 40.0 |",
        "| `n` | 10.0 (a) | - | - (a) | - |",
    ]


def test_each_panel_has_a_curve_for_each_model_with_a_ring_on_the_default() -> None:
    figure = draw_abx(
        [
            abx_result("m_$1$", {"a": (0.1, 0.2), "b": (0.25, None)}),
            abx_result("flat", {"a": (0.3, 0.4)}),
        ]
    )
    figure.canvas.draw()
    within, across = figure.axes
    curve, ring, level = within.lines
    assert list(curve.get_ydata()) == [10, 25]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([2], [25])
    assert (level.get_linestyle(), list(level.get_ydata())) == ("--", [30, 30])
    assert next(iter(across.lines[0].get_ydata())) == 20
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [r"m_\$1\$", "flat"]


def test_results_are_added_and_replaced_and_other_settings_are_not_mixed(tmp_path: Path) -> None:
    assert comparable_abx(tmp_path, ABX_SETTINGS) == ()
    first, second = abx_result("m", {"a": (0.1, 0.2)}), abx_result("n", {"a": (0.1, 0.2)})
    better = abx_result("m", {"a": (0.05, 0.1)})
    for new in (first, second, better):
        add_abx(tmp_path, ABX_SETTINGS, new)
    report = read_abx(tmp_path / "abx.json")
    assert (report.settings, report.results) == (ABX_SETTINGS, (better, second))
    assert "| `m` | 5.0 (a) |" in (tmp_path / "abx.md").read_text()
    assert (tmp_path / "abx.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "abx.json").read_bytes()
    other = msgspec.structs.replace(ABX_SETTINGS, context="any")
    with pytest.raises(AuricleError, match="choose another --out"):
        add_abx(tmp_path, other, first)
    assert (tmp_path / "abx.json").read_bytes() == before


def test_settings_tell_items_apart(librispeech: Path) -> None:
    phones, triphones = (read_item_task(librispeech, triphones=on) for on in (False, True))
    one = abx_settings(phones)
    assert one == abx_settings(read_item_task(librispeech))
    assert (one.span, one.context, one.max_group, one.max_speakers) == ("phone", "within", 10, 5)
    assert set(one.versions) == {"auricle", "python", "torch", "numpy"}
    changed = dataclasses.replace(phones, items=phones.items[:-1])
    assert abx_settings(changed).items_sha256 != one.items_sha256
    assert abx_settings(triphones, any_context=True).context == "any"


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AuricleError, match="cannot open"):
        read_abx(tmp_path / "abx.json")
    (tmp_path / "abx.json").write_text('{"results": []}')
    with pytest.raises(AuricleError, match="no results of the task abx"):
        read_abx(tmp_path / "abx.json")
