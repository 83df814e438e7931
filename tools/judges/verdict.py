"""What a judge prints: figures that it compares with limits, as one JSON object.

A judge is a module `judges.NAME` whose `main()` runs in an environment of its own:

    verdict = Verdict("hear", "hearvalidator")
    verdict.at_most("largest deviation", deviation, 1e-6)
    verdict.equal("models accepted", num_accepted, len(MODELS))
    sys.exit(verdict.finish())
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

MODELS = ("fbank", "tera_mini", "apc_mini", "hubert_mini", "wav2vec2_mini")
"""Models that every judge runs, which come with the library."""


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
