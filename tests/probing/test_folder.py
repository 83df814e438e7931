from __future__ import annotations

import json
from pathlib import Path

import pytest

from auricle.errors import AuricleError
from auricle.plotting import figures
from auricle.probing.folder import add_result, read_folder
from auricle.probing.results import LayerResult, ProbeResult, read_results


def result(model: str, task: str, accuracy: float = 0.5) -> ProbeResult:
    layer = LayerResult(
        name="a",
        dim=4,
        hop_samples=160,
        accuracy=accuracy,
        fold_accuracies=(accuracy,),
        num_examples=30,
        num_train=20,
        num_test=10,
        frame_step=1,
        converged=True,
    )
    return ProbeResult(
        model=model,
        family="apc",
        num_parameters=10,
        weights_sha256=None,
        task=task,
        folds=("test",),
        seed=0,
        num_classes=2,
        majority_accuracy=0.1,
        default_layer="a",
        layers=(layer,),
        skipped_layers=(),
        encoding_seconds=1.0,
        fitting_seconds=2.0,
    )


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "DPI", 20)


def test_a_folder_that_is_not_there_has_no_results(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "none") == []


def test_results_are_added_and_replaced(tmp_path: Path) -> None:
    first, second = result("m", "words"), result("n", "words")
    other, better = result("m", "speakers"), result("m", "words", 0.75)
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
    add_result(tmp_path, result("m", "words"))
    path = tmp_path / "words.json"
    path.write_text(path.read_text().replace('"penalty": 0.01', '"penalty": 0.1'))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert json.loads(before["words.json"])["settings"]["penalty"] == 0.1
    with pytest.raises(AuricleError, match="choose another --out"):
        add_result(tmp_path, result("n", "speakers"))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
