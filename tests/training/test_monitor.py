from __future__ import annotations

import sys
from pathlib import Path

import pytest

from auricle.errors import MissingExtraError
from auricle.training.metrics import read_metrics
from auricle.training.monitor import Monitor, check_monitoring

LINE = {"loss": 1.0, "audio_seconds_per_second": 9.0}


def test_metrics_after_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    with Monitor(tmp_path, first_step=0, num_steps=9) as monitor:
        for step in (2, 4, 6):
            monitor.record(step, LINE)
    with Monitor(tmp_path, first_step=4, num_steps=9) as monitor:
        monitor.stepped()
        monitor.record(5, LINE | {"loss": 0.5})
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert lines[-1]["loss"] == 0.5


def test_events_are_written(tmp_path: Path) -> None:
    with Monitor(tmp_path, first_step=0, num_steps=9) as monitor:
        monitor.record(3, LINE)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


def test_nothing_is_shown_where_there_is_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, first_step=0, num_steps=9) as monitor:
        monitor.stepped()
        monitor.record(1, LINE)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_without_tensorboard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match="run pip install tensorboard"):
        check_monitoring()
