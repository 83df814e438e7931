"""Base classes of pretraining objectives, masked means over padded batches, and Gumbel softmax with
straight-through gradients (arXiv:1611.01144).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.models.base import Encoder
from auricle.nn.quantizer import LogitCodebook, LogitQuantizer


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


SMALLEST_UNIFORM = 2.0**-25
"""Lower clamp of uniform draws: half of their spacing in float32."""


class LogitQuantizerObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of an objective with a `LogitQuantizer`, whose config has the final temperature.

    Attributes:
        start_temperature: Temperature of the Gumbel softmax at the first update, or None for the
            encoder's `gumbel_temperature` throughout, as in the originals (VQ-APC, NPC).
        temperature_decay: Factor of the temperature per update (0.999995 in vq-wav2vec,
            arXiv:1910.05453).
    """

    start_temperature: float | None = None
    temperature_decay: float = 0.999995

    def __post_init__(self) -> None:
        if self.start_temperature is not None and self.start_temperature <= 0:
            raise ValueError(f"start_temperature must be above 0, but is {self.start_temperature}")
        if not 0 < self.temperature_decay <= 1:
            raise ValueError(
                f"temperature_decay must be above 0 and at most 1, but is {self.temperature_decay}"
            )

    def temperature(self, step: int, end_temperature: float) -> float:
        """Temperature after `step` updates, decayed down to `end_temperature`."""
        if self.start_temperature is None:
            return end_temperature
        return max(self.start_temperature * self.temperature_decay**step, end_temperature)


def gumbel_noise(
    shape: Sequence[int], generator: torch.Generator, device: torch.device | str
) -> Tensor:
    """Standard Gumbel noise in float32, drawn on the CPU and therefore equal on every device."""
    uniform = torch.rand(*shape, generator=generator)
    # A uniform draw may be 0, whose logarithm is not finite.
    return uniform.clamp_(min=SMALLEST_UNIFORM).log_().neg_().log_().neg_().to(device)


def straight_through_choice(
    logits: Tensor, *, temperature: float = 1.0, noise: Tensor | None = None
) -> Tensor:
    """One-hot argmax of the (noisy) logits with the gradient of their softmax.

    Args:
        logits: (..., V).
        temperature: Temperature of the softmax that supplies the gradient.
        noise: (..., V), added to the logits; None for no noise.

    Returns:
        (..., V) in float32.
    """
    scores = logits.float()
    if noise is not None:
        scores = scores + noise
    soft = (scores / temperature).softmax(dim=-1)
    hard = F.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(soft.dtype)
    return hard + (soft - soft.detach())


def quantize(
    quantizer: LogitQuantizer,
    x: Tensor,
    *,
    temperature: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, list[Tensor]]:
    """Quantise frames by the largest logit of each codebook (VQ-APC, arXiv:2005.08392, eq. 2).

    Args:
        quantizer: The codebooks.
        x: Frames (B, T, D).
        temperature: Temperature of the Gumbel softmax.
        generator: Source of the Gumbel noise; None for no noise, as in evaluation.

    Returns:
        Code vectors (B, T, D), and the one-hot choices (B, T, V) of each codebook.
    """
    vectors, choices = [], []
    columns = torch.split(x, quantizer.dims, dim=-1)
    for codebook, group in zip(quantizer.codebooks, columns, strict=True):
        assert isinstance(codebook, LogitCodebook)
        logits = codebook(group)
        noise = None
        if generator is not None:
            noise = gumbel_noise(logits.shape, generator, logits.device)
        choice = straight_through_choice(logits, temperature=temperature, noise=noise)
        vectors.append(codebook.vectors(choice))
        choices.append(choice)
    return torch.cat(vectors, dim=-1), choices


def quantizer_metrics(
    choices: Sequence[Tensor], num_frames: Sequence[int], temperature: float
) -> dict[str, Tensor]:
    """Code perplexity and temperature of a quantiser, for logging.

    `code_perplexity` is exp of the entropy of code usage in the batch, averaged over codebooks.

    Args:
        choices: One-hot rows (B, T, V) of each codebook.
        num_frames: Valid frames of each utterance.
        temperature: Temperature of the Gumbel softmax.
    """
    is_valid = valid_frames(num_frames, choices[0].shape[1], choices[0].device)
    padding = ~is_valid.unsqueeze(-1)
    perplexities = []
    for choice in choices:
        counts = choice.detach().masked_fill(padding, 0.0).sum(dim=(0, 1))
        shares = counts / counts.sum().clamp(min=1)
        perplexities.append(torch.special.entr(shares).sum().exp())
    return {
        "code_perplexity": torch.stack(perplexities).mean(),
        "temperature": torch.tensor(temperature, device=choices[0].device),
    }
