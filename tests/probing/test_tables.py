from __future__ import annotations

from typing import Any

import msgspec

from auricle.probing.results import LayerResult, ProbeResult
from auricle.probing.tables import layer_lines, markdown_table


def result(model: str, task: str, accuracies: dict[str, float], **changes: Any) -> ProbeResult:
    layers = tuple(
        LayerResult(
            name=name,
            dim=4,
            hop_samples=160,
            accuracy=accuracy,
            fold_accuracies=(accuracy,),
            num_examples=30,
            num_train=20,
            num_test=10,
            frame_step=8,
            converged=True,
        )
        for name, accuracy in accuracies.items()
    )
    example = ProbeResult(
        model=model,
        family="apc",
        num_parameters=10,
        weights_sha256=None,
        task=task,
        folds=("one", "two"),
        seed=0,
        num_classes=2,
        majority_accuracy=0.182,
        default_layer="last",
        layers=layers,
        skipped_layers=(),
        encoding_seconds=7.4,
        fitting_seconds=2.0,
    )
    return msgspec.structs.replace(example, **changes)


def test_a_row_for_each_model_and_two_columns_for_each_task() -> None:
    results = [
        result("m", "phones", {"first": 0.4567, "last": 0.4}),
        result("m", "words", {"last": 1.0}),
        result("n", "phones", {"first": 0.3}),
    ]
    assert markdown_table(results) == [
        "| model | phones, best | phones, default | words, best | words, default |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| `m` | 45.7 (first) | 40.0 | 100.0 (last) | 100.0 |",
        "| `n` | 30.0 (first) | - | - | - |",
    ]


def test_lines_say_what_was_found_and_how() -> None:
    one = result("m", "phones", {"first": 0.4567, "last": 0.4}, skipped_layers=("block_1",))
    head, first, last, sizes, skipped = layer_lines(one)
    assert head == "m, phones: 2 labels, the most frequent one 18.2 %"
    assert first.split() == ["first", "4", "dims", "45.7", "%", "best"]
    assert last.split() == ["last", "4", "dims", "40.0", "%", "default"]
    assert "2 fold(s) of 20 training and 10 test examples (one frame in 8); 7 s" in sizes
    assert skipped == "  not probed: block_1"


def test_a_solver_that_was_not_done_is_said() -> None:
    one = result("m", "words", {"last": 0.4})
    (layer,) = one.layers
    unfinished = msgspec.structs.replace(layer, converged=False, frame_step=1)
    lines = list(layer_lines(msgspec.structs.replace(one, layers=(unfinished,))))
    assert lines[1].endswith("best, default, solver not done")
    assert "one frame" not in lines[2]
