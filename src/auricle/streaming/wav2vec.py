"""Streams of wav2vec: exact but for the norms over all of time."""

from __future__ import annotations

from collections.abc import Iterator

from auricle.models.stream import Step
from auricle.models.wav2vec import Wav2Vec
from auricle.streaming.conv_encoder import aggregator_steps, extractor_steps


def steps(encoder: Wav2Vec) -> Iterator[Step]:
    """The steps of a wav2vec encoder."""
    yield from extractor_steps(encoder)
    yield from aggregator_steps(encoder)
