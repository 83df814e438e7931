"""VQ-APC: the frame some steps ahead, through a vector quantiser (arXiv:2005.08392)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auricle.models.vq_apc import VqApc
from auricle.nn.batch import Batch, as_ints
from auricle.objectives.base import Loss, Objective
from auricle.objectives.gumbel import LogitQuantizerObjectiveConfig, quantize, quantizer_metrics
from auricle.objectives.prediction import future_l1


class VqApcObjectiveConfig(LogitQuantizerObjectiveConfig, frozen=True, kw_only=True):
    """Options of VQ-APC's loss; how far ahead it predicts is the encoder's `num_future`."""


class VqApcObjective(Objective):
    """A linear layer on the code vectors predicts the fbank frame `num_future` ahead, by L1.

    The codes are chosen by a Gumbel softmax with straight-through gradients in training, and
    without noise in evaluation.
    """

    config_type = VqApcObjectiveConfig
    config: VqApcObjectiveConfig
    encoder: VqApc

    def __init__(self, encoder: VqApc, config: VqApcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        self.head = nn.Linear(encoder.config.hidden_size, encoder.config.features.dim)

    @property
    def min_samples(self) -> int:
        # One frame has to be predicted, and CMVN may need two.
        geometry = self.encoder.config.features.geometry
        num_frames = self.encoder.config.num_future + 1
        return max(geometry.min_samples(num_frames), self.encoder.min_samples)

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
        metrics = {}
        if config.codebooks:
            temperature = self.config.temperature(step, config.gumbel_temperature)
            context, choices = quantize(
                self.encoder.quantizer,
                context,
                temperature=temperature,
                generator=generator if self.training else None,
            )
            metrics = quantizer_metrics(choices, num_frames, temperature)
        loss = future_l1(self.head(context), features, num_frames, config.num_future)
        return Loss(value=loss, metrics=metrics)
