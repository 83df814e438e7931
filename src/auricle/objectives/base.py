"""Base class of pretraining objectives, and masked means over padded batches."""

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
    """Base of objective configurations: frozen, keyword-only, validated on construction."""

    @property
    def unit_targets(self) -> tuple[UnitTargets, ...]:
        """Codebooks whose units the loss predicts; none for most losses."""
        return ()


class UnitTargets(ObjectiveConfig, frozen=True, kw_only=True):
    """Units of frames that a loss predicts (`[[objective.targets]]`): a codebook, read or fitted.

    Attributes:
        num_units: Entries of the codebook.
        num_stages: Stages of a residual codebook, each of which is predicted; 1 for a plain one.
        units: File of units (`auricle units fit`), which decides what follows; None to fit them on
            the training audio when training begins.
        model: Encoder whose frames are clustered, as `auricle.load` takes it: `mfcc_deltas` for a
            first iteration (section 2.1), then an encoder that was trained before.
        layer: Layer of it; None for its default layer.
        sample: Part of the utterances to fit on.
        seed: Seed of the fit.
    """

    num_units: int
    num_stages: int = 1
    units: str | None = None
    model: str = "mfcc_deltas"
    layer: str | None = None
    sample: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_units < 2 or self.num_stages < 1 or not 0 < self.sample <= 1:
            raise ValueError(
                "num_units must be at least 2, num_stages at least 1 and sample above 0 and at "
                f"most 1, but they are {self.num_units}, {self.num_stages} and {self.sample}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """Loss of a batch.

    Attributes:
        value: Scalar to minimise, a mean over the predictions of the batch.
        metrics: Detached scalars to log, by name.
    """

    value: Tensor
    metrics: dict[str, Tensor] = dataclasses.field(default_factory=dict)


class Objective(nn.Module, abc.ABC):
    """Pretraining loss of the encoders of one family.

    A subclass is named `<Encoder>Objective`, sets `config_type` and creates its heads in
    `__init__`. Padding never enters a loss, and all random draws except dropout come from the
    generator passed to `forward`.
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
        """Compute the loss of a padded batch.

        Args:
            waveforms: (B, S) float32 at 16 kHz, zero on padding.
            num_samples: Valid samples of each waveform, at least `min_samples`.
            step: Number of updates done, for annealed temperatures.
            generator: Source of masks, negatives and noise; on the CPU, whatever the device.
        """

    @property
    def min_samples(self) -> int:
        """Length of the shortest waveform, in samples, for which the loss is defined."""
        return self.encoder.min_samples


def valid_frames(num_frames: Sequence[int], size: int, device: torch.device) -> Tensor:
    """Boolean mask (B, T), True on the valid frames of a batch padded to `size` frames."""
    lengths = torch.tensor(num_frames, device=device)
    return torch.arange(size, device=device) < lengths.unsqueeze(1)


def masked_mean(x: Tensor, weights: Tensor) -> Tensor:
    """Mean of `x` where `weights`, broadcast to its shape, is 1; 0 if it is 1 nowhere."""
    weights = weights.to(x.dtype).expand_as(x)
    # `where`, since a product would propagate NaN from padding.
    total = torch.where(weights > 0, x * weights, 0.0).sum()
    return total / weights.sum().clamp(min=1)
