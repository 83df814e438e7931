"""What every pretraining loss is: an encoder, and the heads that pretraining alone needs."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import msgspec
import torch
from torch import Tensor, nn

from auricle.models.base import Encoder


class ObjectiveConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the objectives' configurations: frozen, keyword-only, validated on construction."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of a batch.

    Attributes:
        value: Scalar to minimise, a mean over what is predicted in the batch.
        metrics: Further scalars to watch, by name, detached.
    """

    value: Tensor
    metrics: dict[str, Tensor] = dataclasses.field(default_factory=dict)


class Objective(nn.Module, abc.ABC):
    """The loss that pretrains the encoders of one family.

    A family subclasses it in `objectives/<stem>.py`, names the class `<Encoder>Objective` and sets
    `config_type`. Padding never enters a loss, and all randomness besides dropout comes from the
    generator that `forward` is given.
    """

    config_type: ClassVar[type[ObjectiveConfig]]

    def __init__(self, encoder: Encoder, config: ObjectiveConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config

    @abc.abstractmethod
    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        """The loss of a padded batch.

        Args:
            waveforms: (B, S) float32 at 16 kHz, zeros past each true end.
            num_samples: True length of each waveform, in samples; none below `min_samples`.
            step: Updates done so far, for temperatures that anneal.
            generator: Source of masks, negatives and noise; on the CPU, whatever the device.
        """

    @property
    def min_samples(self) -> int:
        """The shortest waveform, in samples, that the loss is defined for."""
        return self.encoder.min_samples


def true_frames(num_frames: Sequence[int], size: int, device: torch.device) -> Tensor:
    """Boolean (B, T) that is True on the true frames of a batch padded to `size` frames."""
    lengths = torch.tensor(num_frames, device=device)
    return torch.arange(size, device=device) < lengths.unsqueeze(1)


def masked_mean(x: Tensor, weights: Tensor) -> Tensor:
    """Mean of `x` over the positions where `weights`, broadcast to it, is 1; 0 where none is."""
    weights = weights.to(x.dtype).expand_as(x)
    # Not a product alone: padding may hold NaN.
    total = torch.where(weights > 0, x * weights, 0.0).sum()
    return total / weights.sum().clamp(min=1)
