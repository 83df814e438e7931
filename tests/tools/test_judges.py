from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from judges import run
from judges.verdict import Verdict

PINNED = {"judge": "one==1.0", "requires": ["two>=2"], "title": "One", "what": "all of it"}


def test_every_judge_is_pinned_and_has_a_module() -> None:
    known = run.judges()
    modules = {path.stem for path in run.HERE.glob("*.py")} - {"__init__", "run", "verdict"}
    assert set(known) == modules
    for judge in known.values():
        assert judge["judge"].count("==") == 1
        assert set(PINNED) <= set(judge) <= {*PINNED, "alone", "python"}


def test_the_results_are_of_the_pins_and_the_page_has_them() -> None:
    results, known = run.read_results(), run.judges()
    for name, result in results.items():
        assert result["passed"], f"{name} fails: run `python tools/judges/run.py {name}`"
        assert known[name]["judge"].endswith(f"=={result['version']}")
    assert run.table(results, known) in run.PAGE.read_text(encoding="utf-8")


def test_a_judge_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_judge(name: str, python: Path) -> dict[str, Any]:
        if name == "broken":
            raise RuntimeError("no verdict")
        return {"judge": name, "version": "1.0", "passed": True, "checks": {"a": 1.234e-6, "b": 7}}

    page = tmp_path / "clients.md"
    page.write_text(f"<!-- judges: `{run.TOOL}` -->\n\n<!-- /judges -->\n")
    monkeypatch.setattr(run, "PAGE", page)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(run, "judges", lambda: {"broken": PINNED, "good": PINNED})
    monkeypatch.setattr(run, "environment_of", lambda *arguments: Path("python"))
    monkeypatch.setattr(run, "run_judge", run_judge)
    assert run.main([]) == 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert [*results] == ["broken", "good"]
    assert results["broken"] == {"version": "1.0", "passed": False, "checks": {}}
    assert results["good"]["checks"] == {"a": 1.2e-6, "b": 7}
    assert "| One | 1.0 | all of it | **failed** |" in page.read_text()
    assert "| One | 1.0 | all of it | a: 1.2e-06; b: 7 |" in page.read_text()
    assert "no verdict" in capsys.readouterr().err
    assert run.main(["good"]) == 0
    assert set(json.loads((tmp_path / "results.json").read_text())) == {"broken", "good"}
    with pytest.raises(SystemExit):
        run.main(["other"])


def test_an_environment_is_made_once_for_its_pins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []

    def make_environment(folder: Path, *arguments: object) -> Path:
        folder.mkdir()
        made.append(folder.name)
        return folder / "bin" / "python"

    def install(python: Path, *requirements: str) -> None:
        if "three==3" in requirements:
            raise RuntimeError("there is no three")

    monkeypatch.setattr(run, "make_environment", make_environment)
    monkeypatch.setattr(run, "install", install)
    monkeypatch.setattr(run, "make_base", lambda folder: folder)
    for _ in range(2):
        assert run.environment_of("one", PINNED, tmp_path) == tmp_path / "one/bin/python"
    assert made == ["one"]
    run.environment_of("one", {**PINNED, "judge": "one==1.1"}, tmp_path)
    assert made == ["one", "one"]
    for _ in range(2):  # what is not complete is not taken for an environment
        with pytest.raises(RuntimeError, match="no three"):
            run.environment_of("two", {**PINNED, "alone": ["three==3"]}, tmp_path)
    assert made == ["one", "one", "two", "two"]


@pytest.mark.parametrize(("figure", "status"), [(0.5, 0), (1.0, 0), (1.5, 1), (math.nan, 1)])
def test_a_figure_above_its_limit_fails(
    figure: float, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = Verdict("torch", "torch")
    assert verdict.finish() == 1  # nothing was checked
    verdict.at_most("deviation", figure, 1.0)
    capsys.readouterr()
    assert verdict.finish() == status
    printed = json.loads(capsys.readouterr().out)
    assert printed["checks"] == {"deviation": pytest.approx(figure, nan_ok=True)}
    verdict.equal("count", 2, 3)
    assert verdict.finish() == 1
