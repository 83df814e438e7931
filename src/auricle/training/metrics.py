"""The numbers that are watched: means over the steps between two lines of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

METRICS_FILE = "metrics.jsonl"


def read_metrics(out: Path) -> list[dict[str, float]]:
    """The lines of metrics of a training in order of step; empty where there are none.

    A last line that was cut short by a kill is left out.
    """
    path = out / METRICS_FILE
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


class StepMeans:
    """Sums up what steps report until a line of metrics is due."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._begun = time.monotonic()
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._parts: dict[str, list[Tensor]] = {}
        self._audio_seconds = 0.0

    def add_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Add scalars of a loss, which may still be on their way on a GPU."""
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(value.detach())

    def add_step(self, values: Mapping[str, float], audio_seconds: float) -> None:
        """Add numbers of a step, and the audio that it went through."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._audio_seconds += audio_seconds

    def take(self) -> dict[str, float]:
        """The means since the last call, and the seconds of audio per second; begins anew."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        for name, values in self._parts.items():
            means[name] = sum(float(value) for value in values) / len(values)
        elapsed = max(time.monotonic() - self._begun, 1e-9)
        means["audio_seconds_per_second"] = self._audio_seconds / elapsed
        self._begin()
        return means
