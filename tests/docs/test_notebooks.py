"""The notebooks run on what the package and the repository hold, and what they show is current.

`jupyter execute --inplace NOTEBOOK` updates the outputs.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))

ENVIRONMENT = {"AURICLE_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
MAX_BYTES = 300_000
TIMEOUT_SECONDS = 300
"""Each takes some twenty seconds; the limit is for machines that are busy."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def read(name: str) -> NotebookNode:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text(notebook: NotebookNode) -> str:
    """All that is printed."""
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def num_pictures(notebook: NotebookNode) -> int:
    kinds = [set(output.get("data", {})) for output in outputs(notebook)]
    return sum(bool(kind & {"image/png", "image/jpeg"}) for kind in kinds)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], NotebookNode]:
    """A function that runs a notebook in its folder, as Jupyter does, without a network."""
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path / "cache"))
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    where = {"metadata": {"path": str(FOLDER)}}

    def run(name: str) -> NotebookNode:
        notebook = read(name)
        client = NotebookClient(
            notebook, timeout=TIMEOUT_SECONDS, kernel_name="python3", resources=where
        )
        client.execute()
        return notebook

    return run


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_small_and_says_nothing_of_the_machine(name: str) -> None:
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MAX_BYTES
    notebook = read(name)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run it anew, from the first cell to the last"
    for output in outputs(notebook):
        assert output.output_type in ("stream", "display_data", "execute_result")
        assert output.get("name") != "stderr"
    assert not re.search(r"/(tmp|home|root|usr|Users)\b|[Ww]arning|0x[0-9a-f]{6}", text(notebook))


@pytest.mark.usefixtures("not_laid_out")
def test_first_features_prints_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code alone, without a kernel."""
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    saved = read("first_features")
    code = "\n".join(cell.source for cell in saved.cells if cell.cell_type == "code")
    code = re.sub(
        r"^(from matplotlib_inline|set_matplotlib_formats).*", "", code, flags=re.MULTILINE
    )
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(code, {"__name__": "__main__"})
    assert printed.getvalue() == text(saved)
    assert "the same alone: True" in text(saved)
    assert num_pictures(saved) == 2


@pytest.mark.whole  # its code is run above
def test_first_features_gives_what_it_shows(run: Callable[[str], NotebookNode]) -> None:
    fresh, saved = run("first_features"), read("first_features")
    assert text(fresh) == text(saved)
    assert "the same alone: True" in text(fresh)
    assert num_pictures(fresh) == num_pictures(saved) == 2


@pytest.mark.whole  # docs/probing.md runs the same commands
def test_probing_a_layer_gives_what_it_shows(run: Callable[[str], NotebookNode]) -> None:
    fresh, saved = run("probing_a_layer"), read("probing_a_layer")
    assert NUMBER.sub("#", text(fresh)) == NUMBER.sub("#", text(saved))
    # A recording of the 60 is 1.7 points; other processors may tell a few others.
    assert percentages(fresh) == pytest.approx(percentages(saved), abs=5)
    layers = dict(re.findall(r"^(\w+ +\w+) +(\d+) %", text(fresh), flags=re.MULTILINE))
    by_layer = {tuple(name.split()): int(value) for name, value in layers.items()}
    assert by_layer["tera_mini", "layer_3"] >= by_layer["fbank", "features"] + 30
    assert num_pictures(fresh) == num_pictures(saved) == 3


@pytest.mark.whole  # tests/test_fine_tuning.py runs the same recipe
def test_fine_tuning_on_words_gives_what_it_shows(run: Callable[[str], NotebookNode]) -> None:
    fresh, saved = run("fine_tuning_on_words"), read("fine_tuning_on_words")
    assert NUMBER.sub("#", text(fresh)) == NUMBER.sub("#", text(saved))
    for notebook in (fresh, saved):
        frozen, tuned = percentages(notebook)
        assert frozen >= 50
        assert tuned >= frozen + 5
    assert "the same numbers: True" in text(fresh)
    assert num_pictures(fresh) == num_pictures(saved) == 2


def percentages(notebook: NotebookNode) -> list[float]:
    """The percentages that are printed, in their order."""
    return [float(number) for number in re.findall(r"(\d+) %", text(notebook))]
