from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auricle.training.metrics import METRICS_FILE, StepMeans, read_metrics


def test_means_since_the_last_time() -> None:
    means = StepMeans()
    for value in (1.0, 3.0):
        means.add_step({"loss": value}, audio_seconds=4.0)
    means.add_parts({"accuracy": torch.tensor(0.5, requires_grad=True)})
    taken = means.take()
    assert (taken["loss"], taken["accuracy"]) == (2.0, 0.5)
    assert taken["audio_seconds_per_second"] > 0
    means.add_step({"loss": 5.0}, audio_seconds=0.0)
    assert means.take() == {"loss": 5.0, "audio_seconds_per_second": 0.0}


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    (tmp_path / METRICS_FILE).write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]


def test_means_of_nothing_are_no_error() -> None:
    assert StepMeans().take() == pytest.approx({"audio_seconds_per_second": 0.0})
