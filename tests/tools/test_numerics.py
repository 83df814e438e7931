"""docs/numerics.md says what was measured, and what is measured is no worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numerics
import pytest
import torch

OTHER_MACHINES = 5.0
"""How many times as far off another processor's kernels may be; the page says so."""

ROUNDING = 2e-6
"""Standard deviations below which a figure says nothing but which sum was taken first."""


@pytest.fixture(scope="module")
def documented() -> dict[str, Any]:
    results: dict[str, Any] = json.loads(numerics.RESULTS.read_text())
    return results


def test_the_page_is_current() -> None:
    assert numerics.PAGE.read_text() == numerics.expected(), "run python tools/numerics.py"


def test_every_family_and_case_is_documented(documented: dict[str, Any]) -> None:
    cases = numerics.cases_in(numerics.golden_cases.FOLDER)
    found = {name for family in documented["families"].values() for name in family["cases"]}
    assert found == {case.name for case in cases}
    assert set(documented["families"]) == set(numerics.FAMILIES) - {"baseline"}


def test_what_is_documented_keeps_the_limits(documented: dict[str, Any]) -> None:
    for family in documented["families"].values():
        assert family["codes"]["differing"] == 0
        for way in family["ways"].values():
            for question, limit in family["limits"].items():
                assert numerics.worst(way[question])[1] <= limit


@pytest.mark.parametrize("stem", ["tera", "cpc", "vq_wav2vec", "hubert"])
def test_what_is_measured_is_no_worse(stem: str, documented: dict[str, Any]) -> None:
    measured = numerics.measure(families=[stem])["families"][stem]
    known = documented["families"][stem]
    assert measured["codes"] == known["codes"]
    for way in numerics.WAYS:
        for question, limit in known["limits"].items():
            ours, theirs = measured["ways"][way][question], known["ways"][way][question]
            assert ours.keys() == theirs.keys()
            for layer in ours:
                told = max(theirs[layer]["std"], ROUNDING)
                assert ours[layer]["std"] <= min(OTHER_MACHINES * told, limit), (way, layer)


def test_the_page_states_the_factor() -> None:
    assert OTHER_MACHINES == 5.0
    assert "allow five times what the tables say" in " ".join(numerics.PAGE.read_text().split())


def test_differences_are_of_the_reference_s_deviation() -> None:
    reference = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    found = numerics.difference(reference + torch.tensor([[0.0, 0.5], [0.0, 0.0]]), reference)
    assert found["abs"] == 0.5
    assert found["std"] == pytest.approx(0.5 / reference.std().item())
    assert numerics.difference(reference, reference) == {"std": 0.0, "abs": 0.0}


def test_the_worst_is_kept() -> None:
    figures: numerics.Figures = {}
    numerics.worse(figures, "a", {"std": 1e-6, "abs": 3.0})
    numerics.worse(figures, "a", {"std": 2e-6, "abs": 1.0})
    numerics.worse(figures, "b", {"std": 1e-7, "abs": 4.0})
    assert figures["a"] == {"std": 2e-6, "abs": 3.0}
    assert numerics.worst(figures) == ("a", 2e-6, 4.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0e-6, "1.0e-6"),
        (1.51e-6, "1.6e-6"),
        (9.95e-6, "1.0e-5"),
        (3.2e-10, "3.2e-10"),
    ],
)
def test_figures_are_rounded_up(value: float, text: str) -> None:
    assert numerics.shown(value) == text
    assert float(numerics.shown(value)) >= value


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no golden cases"):
        numerics.cases_in(tmp_path)


def test_check_tells_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "numerics.md"
    page.write_text("old")
    monkeypatch.setattr(numerics, "PAGE", page)
    monkeypatch.setattr(numerics, "expected", lambda: "new")
    with pytest.raises(SystemExit, match="not current"):
        numerics.main(["--check"])
    assert page.read_text() == "old"
    page.write_text("new")
    numerics.main(["--check"])
