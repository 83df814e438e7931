"""APC: the frame some steps ahead (arXiv:1904.03240)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auricle.models.apc import Apc
from auricle.nn.batch import Batch, as_ints
from auricle.objectives.base import Loss, Objective, ObjectiveConfig
from auricle.objectives.prediction import future_l1


class ApcObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of APC's loss; how far ahead it predicts is the encoder's `num_future`."""


class ApcObjective(Objective):
    """A linear layer on the last GRU layer predicts the fbank frame `num_future` ahead, by L1."""

    config_type = ApcObjectiveConfig
    encoder: Apc

    def __init__(self, encoder: Apc, config: ApcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        self.head = nn.Linear(encoder.config.hidden_size, encoder.config.features.dim)

    @property
    def min_samples(self) -> int:
        # One frame has to be predicted.
        geometry = self.encoder.config.features.geometry
        return geometry.min_samples(self.encoder.config.num_future + 2)

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        config = self.encoder.config
        batch = self.encoder.features(Batch.padded(waveforms, num_samples))
        features, num_frames = batch.values, as_ints(batch.lengths)
        *_, context = self.encoder.rnn(features)
        return Loss(value=future_l1(self.head(context), features, num_frames, config.num_future))
