"""Streams of APC: exact but for the normalisation of its features."""

from __future__ import annotations

from collections.abc import Iterator

from auricle.models.apc import Apc
from auricle.models.stream import Step
from auricle.streaming.gru_encoder import gru_steps


def steps(encoder: Apc) -> Iterator[Step]:
    """The steps of an APC encoder."""
    yield from gru_steps(encoder)
