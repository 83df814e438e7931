"""The tables of docs/speed.md and the README are those of the committed results."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return import_module(name)


def test_comparisons_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    report = imported("peer_workers.report", monkeypatch)
    results = report.read(BENCHMARKS / "results" / "peers.json")
    remedy = "run python benchmarks/peers.py --render"
    assert report.tables(results) in report.PAGE.read_text(), remedy
    assert report.summary(results) in report.README.read_text(), remedy
    assert len(report.summary(results).splitlines()) >= 10


def test_precisions_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    precision = imported("precision", monkeypatch)
    results = precision.json.loads(precision.RESULTS.read_text())
    table = precision.table(results)
    assert table in precision.PAGE.read_text(), "run python benchmarks/precision.py --render"
    assert all(f"`{name}`" in table for name in precision.MODELS)
    for result in results.values():
        exact = result["probes"]["float32"]
        assert all(abs(other - exact) < 0.002 for other in result["probes"].values())


def test_speeds_of_precisions_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = imported("precision_speed", monkeypatch)
    table = speeds.table(speeds.json.loads(speeds.RESULTS.read_text()))
    assert table in speeds.PAGE.read_text(), "run python benchmarks/precision_speed.py --render"
    assert len(table.splitlines()) >= 12


def test_the_start_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    start_up = imported("start_up", monkeypatch)
    rows = start_up.json.loads(start_up.RESULTS.read_text())["steps"]
    page = start_up.PAGE.read_text()
    assert start_up.table(rows) in page, "run python benchmarks/start_up.py --render"
    assert [row["step"] for row in rows] == list(start_up.steps(Path("base")))
    assert not [row for row in rows if row["beyond"] and row["beyond"] > row["budget"]]


def test_hours_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    long_audio = imported("long_audio", monkeypatch)
    runs = list(long_audio.read(long_audio.RESULTS).values())
    page = long_audio.PAGE.read_text()
    for rows in long_audio.tables(runs).values():
        assert len(rows.splitlines()) >= 5
        assert rows in page, "run python benchmarks/long_audio.py --render"
    assert all(run["peak_bytes"] < 4e9 for run in runs)
