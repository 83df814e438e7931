"""What a judge prints: figures that it compares with limits, as one JSON object.

A judge is a module `judges.NAME` that is run in an environment of its own, and gives `main()`'s
status:

    verdict = Verdict("hear", "hearvalidator")
    verdict.at_most("largest deviation", deviation, 1e-6)
    verdict.equal("models accepted", num_accepted, len(MODELS))
    return verdict.finish()
"""

from __future__ import annotations

import csv
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
WORDS = ROOT / "tests" / "data" / "words"
"""Where they are, with a `manifest.tsv`."""

MODELS = ("fbank", "tera_mini", "apc_mini", "hubert_mini", "wav2vec2_mini")
"""Models that every judge runs, which come with the library."""


def clips() -> list[Tensor]:
    """The bundled speech (S,), two utterances at 16 kHz."""
    from auricle.audio.files import read_audio
    from auricle.audio.inputs import sample_paths

    return [read_audio(path) for path in sample_paths()]


def digits() -> list[dict[str, Any]]:
    """Spoken digits: rows with `path`, and with `speaker` and `word` as text, among others."""
    with (WORDS / "manifest.tsv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [{**row, "path": WORDS / row["path"]} for row in rows]


def deviation(found: Tensor, expected: Tensor) -> float:
    """The largest difference in standard deviations of what is expected; NaN of other shapes."""
    if found.shape != expected.shape:
        return float("nan")
    return float((found - expected).abs().max() / expected.std())


class Verdict:
    """Figures of a judge, and whether all of them are within their limits."""

    def __init__(self, judge: str, distribution: str) -> None:
        """Begin with no figures.

        Args:
            judge: Name of the judge, as in judges.toml.
            distribution: Name of the package that it is of, for the version.
        """
        self.judge = judge
        self.version = version(distribution)
        self.checks: dict[str, float] = {}
        self.passed = True

    def at_most(self, name: str, figure: float, limit: float) -> None:
        """Note a figure, which fails above the limit or where it is NaN."""
        self._note(name, figure, figure <= limit, f"at most {limit:g}")

    def equal(self, name: str, figure: float, expected: float) -> None:
        """Note a figure, such as a count, which fails unless it is the one expected."""
        self._note(name, figure, figure == expected, f"{expected:g}")

    def _note(self, name: str, figure: float, passes: bool, expected: str) -> None:
        self.checks[name] = figure
        if not passes:
            self.passed = False
            print(f"{name} is {figure:g}, but must be {expected}", file=sys.stderr)  # noqa: T201

    def finish(self) -> int:
        """Print the object, as the last line; gives the status, 1 where a figure fails."""
        found = {"judge": self.judge, "version": self.version, "checks": self.checks}
        print(json.dumps(found), flush=True)  # noqa: T201 - read by run.py
        return 0 if self.passed and self.checks else 1
