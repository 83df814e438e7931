from __future__ import annotations

import io
import sys
import threading
import time

import pytest

from auricle.cli import progress as progress_module
from auricle.cli.progress import ProgressBars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_count_files_then_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with ProgressBars() as progress:
        progress.measure(2, 4)
        assert "measuring" in terminal.getvalue()
        progress.start(30.0, 4)
        progress.advance(15.0)
        assert progress._bar is not None
        assert progress._bar.n == 15.0
        assert "0/30 s of audio" in terminal.getvalue()
        progress.start(None, None)
        assert terminal.getvalue().rpartition("\r")[2].startswith("0 s of audio")
    assert progress._bar is None


def test_failures_are_lines_and_nothing_else_is_shown_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressBars() as progress:
        progress.measure(1, 2)
        progress.start(2.0, 2)
        progress.fail("a.wav: no samples")
        progress.advance(1.0)
    assert capsys.readouterr().err == "auricle: error: a.wav: no samples\n"


def test_time_counts_from_the_start_of_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((10.0, 12.5))
    progress = ProgressBars()
    assert progress.elapsed == 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    progress.start(None, None)
    assert progress.elapsed == 2.5


def fail_in(progress: ProgressBars, *, is_started: bool) -> None:
    with progress:
        if is_started:
            progress.start(1.0, 1)
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_started", [False, True])
def test_an_interrupted_run_can_be_continued_once_it_has_begun(
    is_started: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_in(ProgressBars(), is_started=is_started)
    assert ("run the same command to resume" in capsys.readouterr().err) == is_started


def test_where_there_is_no_terminal_lines_say_how_far_a_run_has_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.01)
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    with ProgressBars() as progress:
        assert progress.line() == ""
        progress.measure(1000, 2000)
        assert progress.line() == "measured 1,000 of 2,000 files"
        progress.start(7200.0, 10)
        assert progress.line().endswith("remaining time unknown")
        now[0] += 60
        progress.advance(1800.0)
        expected = (
            "encoded 0.50 of 2.00 h of audio (25 %) in 60 s, 30.0 x real time, about 3 min left"
        )
        assert progress.line() == expected
        threading.Event().wait(0.1)
        progress.start(None, None)
        assert progress.line().startswith("encoded 0.50 h of audio in ")
    assert f"auricle: {expected}\n" in capsys.readouterr().err
    assert not [thread for thread in threading.enumerate() if thread.name == "auricle-log"]
