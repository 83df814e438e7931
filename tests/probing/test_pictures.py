from __future__ import annotations

from auricle.probing.pictures import draw_layers
from auricle.probing.results import LayerResult, ProbeResult


def result(model: str, accuracies: dict[str, float]) -> ProbeResult:
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
            frame_step=1,
            converged=True,
        )
        for name, accuracy in accuracies.items()
    )
    return ProbeResult(
        model=model,
        family="apc",
        num_parameters=10,
        weights_sha256=None,
        task="words",
        folds=("test",),
        seed=0,
        num_classes=2,
        majority_accuracy=0.1,
        default_layer="b",
        layers=layers,
        skipped_layers=(),
        encoding_seconds=1.0,
        fitting_seconds=2.0,
    )


def test_one_model_has_its_layers_on_the_axis_and_a_ring_on_the_default() -> None:
    figure = draw_layers([result("m", {"a": 0.25, "b": 0.5, "c": 0.4})])
    figure.canvas.draw()
    (panel,) = figure.axes
    curve, ring, majority = panel.lines
    assert list(curve.get_ydata()) == [25, 50, 40]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([1], [50])
    assert list(majority.get_ydata()) == [10, 10]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["a", "b", "c"]
    assert "words" in panel.get_title()


def test_several_models_count_layers_and_a_single_layer_is_level() -> None:
    figure = draw_layers([result("m_$1$", {"a": 0.25, "b": 0.5}), result("flat", {"b": 0.3})])
    figure.canvas.draw()
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1", "2"]
    level = next(line for line in panel.lines if line.get_label() == "flat")
    assert (level.get_linestyle(), list(level.get_ydata())) == ("--", [30, 30])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        r"m_\$1\$",
        "flat",
        "most frequent label",
    ]
