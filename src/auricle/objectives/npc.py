"""NPC: the centre frame from context that hides it (arXiv:2011.00406)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auricle.models.npc import Npc
from auricle.nn.batch import Batch, as_ints
from auricle.objectives.base import Loss, Objective
from auricle.objectives.gumbel import LogitQuantizerObjectiveConfig, quantize, quantizer_metrics
from auricle.objectives.prediction import future_l1


class NpcObjectiveConfig(LogitQuantizerObjectiveConfig, frozen=True, kw_only=True):
    """Options of NPC's loss; what is hidden from a frame's prediction is the encoder's."""


class NpcObjective(Objective):
    """A linear layer on the code vectors (or the bottleneck) predicts each frame itself, by L1.

    The codes are chosen by a Gumbel softmax with straight-through gradients in training, and
    without noise in evaluation.
    """

    config_type = NpcObjectiveConfig
    config: NpcObjectiveConfig
    encoder: Npc

    def __init__(self, encoder: Npc, config: NpcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        width = encoder.config.bottleneck_dim or encoder.config.hidden_size
        self.head = nn.Linear(width, encoder.config.features.dim)

    @property
    def min_samples(self) -> int:
        # Batch norm needs two frames, if a batch holds one utterance.
        geometry = self.encoder.config.features.geometry
        return max(geometry.min_samples(2), self.encoder.min_samples)

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
        context = self.context(batch)
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
        loss = future_l1(self.head(context), features, num_frames, ahead=0)
        return Loss(value=loss, metrics=metrics)

    def context(self, features: Batch) -> Tensor:
        """The encoder's last layer (B, T, D), `masked_sum` or the bottleneck, of its features."""
        last = self.encoder.layer_infos[-1].name
        *_, (_, context) = self.encoder.encode_features(features, frozenset({last}))
        return context.values
