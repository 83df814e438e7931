from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from auricle.errors import AuricleError
from auricle.plotting import figures
from auricle.probing.report import (
    add_result,
    draw_layers,
    layer_lines,
    markdown_table,
    read_folder,
    read_results,
)
from probing.conftest import probe_result


def test_a_row_for_each_model_and_two_columns_for_each_task() -> None:
    results = [
        probe_result("m", "phones", {"first": 0.4567, "last": 0.4}),
        probe_result("m", "words", {"last": 1.0}),
        probe_result("n", "phones", {"first": 0.3}, default_layer="last"),
    ]
    assert markdown_table(results) == [
        "| model | phones, best | phones, default | words, best | words, default |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| `m` | 45.7 (first) | 40.0 | 100.0 (last) | 100.0 |",
        "| `n` | 30.0 (first) | - | - | - |",
    ]


def test_lines_say_what_was_found_and_how() -> None:
    one = probe_result("m", "phones", {"first": 0.4567, "last": 0.4}, skipped_layers=("block_1",))
    head, first, last, sizes, skipped = layer_lines(one)
    assert head == "m, phones: 2 labels, majority class 18.2 %"
    assert first.split() == ["first", "8", "dims", "45.7", "%", "best"]
    assert last.split() == ["last", "8", "dims", "40.0", "%", "default"]
    assert "2 fold(s) of 20 training and 10 test examples (one frame in 8); 7 s" in sizes
    assert skipped == "  not probed: block_1"


def test_a_solver_that_was_not_done_is_said() -> None:
    one = probe_result("m", "words", {"last": 0.4})
    (layer,) = one.layers
    unfinished = msgspec.structs.replace(layer, converged=False, frame_step=1)
    lines = list(layer_lines(msgspec.structs.replace(one, layers=(unfinished,))))
    assert lines[1].endswith("best, default, not converged")
    assert "one frame" not in lines[2]


def test_one_model_has_its_layers_on_the_axis_and_a_ring_on_the_default() -> None:
    figure = draw_layers(
        [probe_result("m", "words", {"a": 0.25, "b": 0.5, "c": 0.4}, default_layer="b")]
    )
    figure.canvas.draw()
    (panel,) = figure.axes
    curve, ring, majority = panel.lines
    assert list(curve.get_ydata()) == [25, 50, 40]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([1], [50])
    assert list(majority.get_ydata()) == [18.2, 18.2]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["a", "b", "c"]
    assert "words" in panel.get_title()


def test_several_models_count_layers_and_a_single_layer_is_level() -> None:
    figure = draw_layers(
        [
            probe_result("m_$1$", "words", {"a": 0.25, "b": 0.5}, default_layer="b"),
            probe_result("flat", "words", {"b": 0.3}, default_layer="b"),
        ]
    )
    figure.canvas.draw()
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1", "2"]
    level = next(line for line in panel.lines if line.get_label() == "flat")
    assert (level.get_linestyle(), list(level.get_ydata())) == ("--", [30, 30])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        r"m_\$1\$",
        "flat",
        "majority class",
    ]


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "DPI", 20)


def test_a_folder_that_is_not_there_has_no_results(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "none") == []


def test_results_are_added_and_replaced(tmp_path: Path) -> None:
    first, second = probe_result("m", "words", {"a": 0.5}), probe_result("n", "words", {"a": 0.5})
    other, better = (
        probe_result("m", "speakers", {"a": 0.5}),
        probe_result("m", "words", {"a": 0.75}),
    )
    for new in (first, second, other, better):
        add_result(tmp_path, new)
    assert read_results(tmp_path / "words.json").results == (better, second)
    assert sorted(read_folder(tmp_path), key=lambda r: (r.task, r.model)) == [other, better, second]
    header, _, *rows = (tmp_path / "table.md").read_text().splitlines()
    assert "words, best" in header
    assert "speakers, best" in header
    assert "75.0 (a)" in next(row for row in rows if "`m`" in row)
    assert "75.0 (a)" not in next(row for row in rows if "`n`" in row)
    for task in ("words", "speakers"):
        assert (tmp_path / f"{task}.png").read_bytes().startswith(b"\x89PNG")


def test_results_measured_in_another_way_stay_as_they_are(tmp_path: Path) -> None:
    add_result(tmp_path, probe_result("m", "words", {"a": 0.5}))
    path = tmp_path / "words.json"
    path.write_text(path.read_text().replace('"penalty": 0.01', '"penalty": 0.1'))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert json.loads(before["words.json"])["settings"]["penalty"] == 0.1
    with pytest.raises(AuricleError, match="choose another --out"):
        add_result(tmp_path, probe_result("n", "speakers", {"a": 0.5}))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
