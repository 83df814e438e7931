"""Streams of the baselines: Kaldi's filterbank alone."""

from __future__ import annotations

from collections.abc import Iterator

from auricle.models.baseline import Baseline
from auricle.models.stream import Step
from auricle.streaming.features import feature_steps


def steps(encoder: Baseline) -> Iterator[Step]:
    """The step of a baseline."""
    yield from feature_steps(encoder)
