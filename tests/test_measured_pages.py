"""The tables of docs/speed.md and the README are those of the committed results."""

from __future__ import annotations

import sys
import time
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


WORKER = """#!/bin/sh
sleep 60 &
echo $! >> "{folder}/children"
while read -r line; do
    case $line in
        *hang*) sleep 60 ;;
        *die*) echo "out of luck" >&2; exit 3 ;;
        *) echo '{{"done": true}}' ;;
    esac
done
"""


def test_no_worker_is_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = imported("peer_workers.client", monkeypatch)
    script = tmp_path / "worker"
    script.write_text(WORKER.format(folder=tmp_path))
    script.chmod(0o700)
    peer = client.Client("s3prl", str(script), 1, tmp_path, limit_seconds=0.3, checkpoint="model")
    assert peer.ask("outputs") == {"done": True}
    with pytest.raises(client.PeerError, match=r"s3prl: no answer to `hang` in 0\.3 s"):
        peer.ask("hang")
    assert peer.ask("outputs") == {"done": True}  # of another process
    with pytest.raises(client.PeerError, match="s3prl: the worker ended: out of luck"):
        peer.ask("die")
    peer.close()
    children = (tmp_path / "children").read_text().split()
    assert len(children) == 2
    end = time.monotonic() + 10
    while any(map(is_running, children)):
        assert time.monotonic() < end, "a child of a worker is left"
        time.sleep(0.01)


def is_running(pid: str) -> bool:
    """True if a process is there and not ended, though perhaps not waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_rows_of_other_machines_stand_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    report = imported("peer_workers.report", monkeypatch)
    run = {"cpu": "A", "num_cpus": 2, "threads": 2, "rounds": 3, "versions": {"torch": "2"}}
    run |= {
        "float32_gflops": 1.0,
        "bfloat16_gflops": 2.0,
        "date": "?",
        "flags": [],
        "load_before": 0,
    }
    runs = [run, {**run, "cpu": "B", "clock": "cpu", "threads": 1}]
    entry = {"library": "auricle", "way": "batch", "seconds": [2.0], "median": 2.0}
    entry |= {"fastest": 2.0, "slowest": 2.0, "peak_mib": 5, "before_mib": 4}
    failed = {"library": "s3prl", "way": "batch", "seconds": [], "failed": "no answer in 1 s"}
    row = {"case": "ragged", "audio_seconds": 8.0, "gflop": 1.0, "skipped": {}, "differences": {}}
    rows = [
        {**row, "model": "apc", "run": 0, "entries": [entry]},
        {**row, "model": "cpc", "run": 1, "entries": [entry, failed]},
    ]
    page = report.tables({"runs": runs, "rows": rows})
    first, second = page.split("On B, 2 cores, 1 thread, processor time:")
    assert "On A, 2 cores, 2 threads:" in first
    assert "| APC |" in first
    assert "| CPC |" not in first
    assert "| CPC | s3prl | batch | - | no answer in 1 s |" in second
    assert report.summary({"runs": runs, "rows": rows}).count("\n| model |") == 2
    assert report.is_like(runs[0], {**run, "versions": {"torch": "2", "onnx": "1"}})
    assert not report.is_like(runs[0], {**run, "versions": {"torch": "3"}})
    assert not report.is_like(runs[0], runs[1])
    assert report.libraries_of({**rows[1], "skipped": {"openvino": "?"}}) == {
        "auricle",
        "s3prl",
        "openvino",
    }


def test_the_whole_job_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    whole_job = imported("whole_job", monkeypatch)
    rows = whole_job.read(whole_job.RESULTS)
    remedy = "run python benchmarks/whole_job.py --render"
    assert whole_job.tables(rows) in whole_job.PAGE.read_text(), remedy
    assert set(rows) == set(whole_job.MODELS)
    for row in rows.values():
        assert whole_job.medians(row["cells"]["auricle extract"])["waiting"] < 0.02
