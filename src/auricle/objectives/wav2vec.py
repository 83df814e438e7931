"""wav2vec: frames to come among negatives of the same utterance (arXiv:1904.05862)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from auricle.models.wav2vec import Wav2Vec
from auricle.nn.batch import Batch, as_ints
from auricle.objectives.base import Loss
from auricle.objectives.future_contrast import FutureContrastConfig, FutureContrastObjective


class Wav2VecObjectiveConfig(FutureContrastConfig, frozen=True, kw_only=True):
    """Options of wav2vec's loss."""


class Wav2VecObjective(FutureContrastObjective):
    """An affine layer per step predicts the frames z to come from each context."""

    config_type = Wav2VecObjectiveConfig
    config: Wav2VecObjectiveConfig
    encoder: Wav2Vec

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        z, num_frames = self.encoder.frames(
            Batch.padded(waveforms[:, : max(num_samples)], num_samples)
        )
        return self.future_contrast(z, as_ints(num_frames), generator)
