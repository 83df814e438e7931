"""Streams of VQ-APC: those of APC, and codes."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from auricle.models.stream import CODES, Step
from auricle.models.vq_apc import VqApc
from auricle.streaming.gru_encoder import gru_steps
from auricle.streaming.stages import PerFrame


def steps(encoder: VqApc) -> Iterator[Step]:
    """The steps of a VQ-APC encoder."""
    yield from gru_steps(encoder)

    def codes(x: Tensor) -> Tensor:
        return encoder.quantizer.indices(x.transpose(1, 2)).transpose(1, 2)

    if encoder.codes_layer is not None:
        yield Step(CODES, lambda norm: PerFrame(codes))
