"""Streams of the recurrent encoder that APC and VQ-APC share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from auricle.models.gru_encoder import GruEncoder
from auricle.models.stream import Stage, Step
from auricle.nn.stream_norms import NormFunction
from auricle.streaming.features import feature_steps
from auricle.streaming.stages import Recurrent


def gru_steps(encoder: GruEncoder) -> Iterator[Step]:
    """The front end, then each recurrent layer."""
    yield from feature_steps(encoder)
    for index, layer in enumerate(encoder.rnn.layers):
        assert isinstance(layer, nn.GRU)
        residual = encoder.config.residual and index > 0
        yield Step(f"rnn_{index + 1}", partial(_recurrent, layer, residual))


def _recurrent(layer: nn.GRU, residual: bool, norm: NormFunction) -> Stage:
    return Recurrent(layer, residual=residual)
