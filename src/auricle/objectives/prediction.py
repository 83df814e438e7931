"""L1 prediction of frames: APC (arXiv:1904.03240), VQ-APC (2005.08392) and NPC (2011.00406)."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auricle.models.apc import Apc, VqApc
from auricle.models.npc import Npc
from auricle.nn.batch import Batch, as_ints
from auricle.objectives.base import (
    LogitQuantizerObjectiveConfig,
    Loss,
    Objective,
    ObjectiveConfig,
    masked_mean,
    quantize,
    quantizer_metrics,
    valid_frames,
)


def future_l1(predicted: Tensor, features: Tensor, num_frames: Sequence[int], ahead: int) -> Tensor:
    """Mean absolute error of frames predicted `ahead` frames earlier (APC, eq. 1).

    Args:
        predicted: (B, T, D), at frame t the prediction of frame t + `ahead`.
        features: (B, T, D), the target frames.
        num_frames: Valid frames of each utterance; only these are predicted.
        ahead: Distance in frames.
    """
    target = features[:, ahead:]
    counts = [count - ahead for count in num_frames]
    is_valid = valid_frames(counts, target.shape[1], features.device)
    return masked_mean((predicted[:, : target.shape[1]] - target).abs(), is_valid.unsqueeze(2))


class ApcObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of APC's objective; the prediction distance is the encoder's `num_future`."""


class ApcObjective(Objective):
    """APC's objective: L1 prediction of the frame `num_future` ahead from the last GRU layer."""

    config_type = ApcObjectiveConfig
    encoder: Apc

    def __init__(self, encoder: Apc, config: ApcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        self.head = nn.Linear(encoder.config.hidden_size, encoder.config.features.dim)

    @property
    def min_samples(self) -> int:
        # At least one frame must be predicted.
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


class QuantizedPrediction(Objective):
    """L1 prediction of frames from code vectors, or from the context itself without codebooks.

    Codes are chosen by Gumbel softmax with straight-through gradients in training, and without
    noise in evaluation.
    """

    config: LogitQuantizerObjectiveConfig
    encoder: VqApc | Npc
    head: nn.Linear

    @property
    def num_ahead(self) -> int:
        """Distance in frames of the predicted frame."""
        return 0

    @abc.abstractmethod
    def context(self, features: Batch) -> Tensor:
        """Output (B, T, H) of the encoder, for features (B, T, D), that the quantiser reads."""

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
        loss = future_l1(self.head(context), features, num_frames, self.num_ahead)
        return Loss(value=loss, metrics=metrics)


class VqApcObjectiveConfig(LogitQuantizerObjectiveConfig, frozen=True, kw_only=True):
    """Options of VQ-APC's objective; the prediction distance is the encoder's `num_future`."""


class VqApcObjective(QuantizedPrediction):
    """VQ-APC's objective: L1 prediction of the frame `num_future` ahead from code vectors."""

    config_type = VqApcObjectiveConfig
    config: VqApcObjectiveConfig
    encoder: VqApc

    def __init__(self, encoder: VqApc, config: VqApcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        self.head = nn.Linear(encoder.config.hidden_size, encoder.config.features.dim)

    @property
    def min_samples(self) -> int:
        # At least one frame must be predicted, and CMVN may need two.
        geometry = self.encoder.config.features.geometry
        num_frames = self.encoder.config.num_future + 1
        return max(geometry.min_samples(num_frames), self.encoder.min_samples)

    @property
    def num_ahead(self) -> int:
        return self.encoder.config.num_future

    def context(self, features: Batch) -> Tensor:
        layers: list[Tensor] = [*self.encoder.rnn(features.values)]
        return layers[-1]


class NpcObjectiveConfig(LogitQuantizerObjectiveConfig, frozen=True, kw_only=True):
    """Options of NPC's objective; the masked context is the encoder's."""


class NpcObjective(QuantizedPrediction):
    """NPC's objective: L1 prediction of each frame from code vectors (or the bottleneck)."""

    config_type = NpcObjectiveConfig
    config: NpcObjectiveConfig
    encoder: Npc

    def __init__(self, encoder: Npc, config: NpcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        width = encoder.config.bottleneck_dim or encoder.config.hidden_size
        self.head = nn.Linear(width, encoder.config.features.dim)

    @property
    def min_samples(self) -> int:
        # Batch norm needs two frames in a batch of one utterance.
        geometry = self.encoder.config.features.geometry
        return max(geometry.min_samples(2), self.encoder.min_samples)

    def context(self, features: Batch) -> Tensor:
        """Output (B, T, D) of the encoder's last layer, `masked_sum` or the bottleneck."""
        last = self.encoder.layer_infos[-1].name
        *_, (_, context) = self.encoder.encode_features(features, frozenset({last}))
        return context.values
