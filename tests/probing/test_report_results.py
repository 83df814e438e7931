from __future__ import annotations

import json
from pathlib import Path

import pytest

from auricle.errors import AuricleError
from auricle.probing.report import LayerResult, ProbeResult, read_results, write_results


def layer(name: str, accuracy: float) -> LayerResult:
    return LayerResult(
        name=name,
        dim=4,
        hop_samples=160,
        accuracy=accuracy,
        fold_accuracies=(accuracy,),
        num_examples=3,
        num_train=2,
        num_test=1,
        frame_step=1,
        converged=True,
    )


RESULT = ProbeResult(
    model="m",
    family="apc",
    num_parameters=10,
    weights_sha256="ab12",
    task="words",
    folds=("test",),
    seed=0,
    num_classes=2,
    majority_accuracy=0.5,
    default_layer="c",
    layers=(layer("a", 0.5), layer("b", 0.75), layer("c", 0.75)),
    skipped_layers=("z",),
    encoding_seconds=1.0,
    fitting_seconds=2.0,
)


def test_best_is_the_first_of_equals_and_default_goes_by_name() -> None:
    assert RESULT.best.name == "b"
    assert RESULT.default is RESULT.layers[2]


def test_results_survive_the_file_which_states_versions_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    write_results(path, [RESULT])
    assert read_results(path).results == (RESULT,)
    settings = json.loads(path.read_text())["settings"]
    assert {"auricle", "python", "torch", "numpy", "scikit-learn"} == set(settings["versions"])
    assert all(settings["versions"].values())
    assert settings["penalty"] == 0.01


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(AuricleError, match="cannot open"):
        read_results(path)
    path.write_text('{"results": []}')
    with pytest.raises(AuricleError, match="no results of `auricle probe`"):
        read_results(path)
