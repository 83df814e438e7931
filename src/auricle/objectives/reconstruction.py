"""Reconstruction of masked frames: Mockingjay, Audio ALBERT and TERA.

Papers: arXiv:1910.12638, 2005.08575 and 2007.06028. Masks are drawn one utterance after another
over its valid frames, so that padding changes neither the draws nor the masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from auricle.frontends import FbankConfig, LogMelConfig
from auricle.models.spectral_transformer import (
    AudioAlbert,
    BertConfig,
    Mockingjay,
    SpectralBert,
    Tera,
)
from auricle.nn.batch import Batch, Layout, as_ints
from auricle.nn.layers import ACTIVATIONS
from auricle.objectives.base import Loss, Objective, ObjectiveConfig, masked_mean, valid_frames

ZERO_PROBABILITY = 0.8
"""Probability that the masked spans of an utterance are set to zero (Mockingjay)."""

REPLACE_PROBABILITY = 0.1
"""Probability that they are replaced by other spans; otherwise they are left unchanged."""


@dataclasses.dataclass(frozen=True)
class TimeMask:
    """Masked frames of a batch and their replacements.

    Attributes:
        is_masked: (B, T), True on frames to be predicted.
        is_zeroed: (B, T), True on those of them that are set to zero.
        source: (B, T), int64: index of the frame that replaces each frame.
    """

    is_masked: Tensor
    is_zeroed: Tensor
    source: Tensor

    def to(self, device: torch.device) -> TimeMask:
        """Copy to `device`."""
        return TimeMask(
            self.is_masked.to(device), self.is_zeroed.to(device), self.source.to(device)
        )

    def apply(self, features: Tensor) -> Tensor:
        """Frames (B, T, D) with the masked ones altered."""
        source = self.source.unsqueeze(-1).expand_as(features)
        return features.gather(1, source).masked_fill(self.is_zeroed.unsqueeze(-1), 0.0)


def draw_time_mask(
    num_frames: Sequence[int],
    *,
    proportion: float,
    span: tuple[int, int],
    generator: torch.Generator,
) -> TimeMask:
    """Draw spans of frames to predict, on the CPU (Mockingjay, arXiv:1910.12638).

    Each utterance has as many spans as make up `proportion` of its frames, at least one, with
    different starts; they may overlap. All spans of an utterance are treated alike: set to zero
    with probability 0.8, replaced by other spans with 0.1, or left unchanged.

    Args:
        num_frames: Valid frames of each utterance.
        proportion: Share of frames that the spans would cover without overlap.
        span: Smallest and largest length of a span in frames; each utterance draws one length.
        generator: Source of the draws.
    """
    shape = (len(num_frames), max(num_frames))
    is_masked = torch.zeros(shape, dtype=torch.bool)
    is_zeroed = torch.zeros(shape, dtype=torch.bool)
    source = torch.arange(shape[1]).repeat(shape[0], 1)
    for row, length in enumerate(num_frames):
        size = int(torch.randint(span[0], span[1] + 1, (), generator=generator))
        size = min(size, length)
        num_starts = length - size + 1
        num_spans = min(max(round(length * proportion / size), 1), num_starts)
        starts = torch.randperm(num_starts, generator=generator)[:num_spans]
        dice = float(torch.rand((), generator=generator))
        offsets = torch.arange(length) - starts.unsqueeze(1)  # (spans, frames)
        covers = (offsets >= 0) & (offsets < size)
        covered = covers.any(dim=0)
        is_masked[row, :length] = covered
        if dice < ZERO_PROBABILITY:
            is_zeroed[row, :length] = covered
        elif dice < ZERO_PROBABILITY + REPLACE_PROBABILITY:
            others = torch.randperm(num_starts, generator=generator)[:num_spans]
            # Where spans overlap, the first one drawn has precedence.
            first = covers.int().argmax(dim=0)
            replaced = others[first] + offsets.gather(0, first.unsqueeze(0))[0]
            source[row, :length] = torch.where(covered, replaced, source[row, :length])
    return TimeMask(is_masked, is_zeroed, source)


def draw_bands(
    num_rows: int, dim: int, *, max_proportion: float, generator: torch.Generator
) -> Tensor:
    """Draw a band of columns to mask for each utterance, on the CPU (TERA, arXiv:2007.06028).

    Args:
        num_rows: B.
        dim: D, the number of columns.
        max_proportion: Widest band as a share of D; widths are uniform from 0.
        generator: Source of the draws.

    Returns:
        (B, D), True on the band.
    """
    widths = torch.randint(int(dim * max_proportion) + 1, (num_rows,), generator=generator)
    # Starts are uniform over those that keep the band within D.
    starts = torch.rand(num_rows, generator=generator, dtype=torch.float64) * (dim - widths + 1)
    columns = torch.arange(dim) - starts.long().unsqueeze(1)
    return (columns >= 0) & (columns < widths.unsqueeze(1))


def draw_noise(
    num_frames: Sequence[int],
    dim: int,
    *,
    probability: float,
    std: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw Gaussian noise for a random subset of utterances, on the CPU (TERA, arXiv:2007.06028).

    Args:
        num_frames: Valid frames of each utterance.
        dim: D, the number of columns.
        probability: Probability that an utterance gets noise.
        std: Standard deviation of the noise.
        generator: Source of the draws.

    Returns:
        Noise (B, T, D), zero on padding and in utterances without noise, and a mask (B,) of the
        utterances with noise.
    """
    is_noisy = torch.rand(len(num_frames), generator=generator) < probability
    noise = torch.zeros(len(num_frames), max(num_frames), dim)
    for row, length in enumerate(num_frames):
        if is_noisy[row]:
            noise[row, :length] = std * torch.randn(length, dim, generator=generator)
    return noise, is_noisy


class ReconstructionObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of the reconstruction of masked frames (Mockingjay, arXiv:1910.12638).

    Attributes:
        mask_proportion: Share of frames that are masked (0.15).
        min_span: Smallest length of a masked span in frames (7; `mask_consecutive_min`).
        max_span: Largest length in frames (7; `mask_consecutive_max`).
        target: Front end of the reconstructed features, with as many frames as the encoder's own;
            None for the encoder's own. Mockingjay's LinearLarge reconstructs the linear spectrum.
        initialise_encoder: Whether to draw BERT's initial weights for the encoder; False keeps its
            weights.
    """

    mask_proportion: float = 0.15
    min_span: int = 7
    max_span: int = 7
    target: FbankConfig | LogMelConfig | None = None
    initialise_encoder: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.mask_proportion <= 1:
            raise ValueError(
                f"mask_proportion must be above 0 and at most 1, but is {self.mask_proportion}"
            )
        self.check_spans()

    def check_spans(self) -> None:
        """Raise ValueError unless 1 <= `min_span` <= `max_span`."""
        if not 1 <= self.min_span <= self.max_span:
            raise ValueError(
                "min_span must be at least 1 and max_span at least min_span, but they are "
                f"{self.min_span} and {self.max_span}"
            )


class SpecHead(nn.Module):
    """Prediction head: linear, activation, layer norm, linear."""

    def __init__(self, config: BertConfig, *, output_dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.output = nn.Linear(config.hidden_size, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Frames (B, T, output_dim) from hidden states (B, T, hidden_size)."""
        output: Tensor = self.output(self.norm(self.activation(self.dense(x))))
        return output


@torch.no_grad()
def initialise(module: nn.Module, *, std: float) -> None:
    """Draw the initial weights of BERT for linear layers and norms (arXiv:1810.04805).

    Weights are normal with standard deviation `std`, from torch's global generator; biases are 0,
    weights of norms 1.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


class ReconstructionObjective(Objective):
    """L1 reconstruction of frames from altered ones by a head on the last layer.

    Unless `initialise_encoder` is False, the constructor draws new weights for the encoder.
    """

    config_type = ReconstructionObjectiveConfig
    config: ReconstructionObjectiveConfig
    encoder: SpectralBert

    def __init__(self, encoder: SpectralBert, config: ReconstructionObjectiveConfig) -> None:
        super().__init__(encoder, config)
        features = encoder.config.features
        self.target = config.target or features
        if self.target.geometry.frame_rule != features.geometry.frame_rule:
            raise ValueError(
                "the target must have as many frames as the encoder's features for every length, "
                f"but their windows are {self.target.geometry} and {features.geometry}"
            )
        transformer = encoder.config.transformer
        self.head = SpecHead(transformer, output_dim=self.target.dim)
        initialise(self.head, std=transformer.init_std)
        if config.initialise_encoder:
            initialise(encoder, std=transformer.init_std)

    @property
    def min_samples(self) -> int:
        # The longest span must leave one frame unmasked.
        num_frames = self.config.max_span + 1
        shortest = self.encoder.config.features.geometry.min_samples(num_frames)
        return max(shortest, self.encoder.min_samples, self.target.min_samples)

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        batch = self.encoder.features(Batch.padded(waveforms, num_samples))
        features, num_frames = batch.values, as_ints(batch.lengths)
        target = features
        if self.config.target is not None:
            target = self.config.target.features(waveforms, num_samples)
        altered, counts = self.alter(features, num_frames, generator)
        *_, state = self.encoder.bert(altered, Layout(num_frames))
        error = (self.head(state).float() - target.float()).abs()
        is_valid = valid_frames(num_frames, features.shape[1], features.device).unsqueeze(-1)
        share = masked_mean(counts.float().expand_as(error), is_valid)
        return Loss(value=masked_mean(error, counts & is_valid), metrics={"predicted_share": share})

    def alter(
        self, features: Tensor, num_frames: Sequence[int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Alter frames (B, T, D) and mask the target values that enter the loss.

        Returns:
            Altered frames (B, T, D), and a mask that broadcasts to the shape of the target.
        """
        mask = draw_time_mask(
            num_frames,
            proportion=self.config.mask_proportion,
            span=(self.config.min_span, self.config.max_span),
            generator=generator,
        ).to(features.device)
        return mask.apply(features), mask.is_masked.unsqueeze(-1)


class MockingjayObjectiveConfig(ReconstructionObjectiveConfig, frozen=True, kw_only=True):
    """Options of Mockingjay's objective."""


class MockingjayObjective(ReconstructionObjective):
    """Mockingjay's objective (arXiv:1910.12638): L1 reconstruction of the masked frames."""

    config_type = MockingjayObjectiveConfig
    config: MockingjayObjectiveConfig
    encoder: Mockingjay


class AudioAlbertObjectiveConfig(ReconstructionObjectiveConfig, frozen=True, kw_only=True):
    """Options of Audio ALBERT's objective, which is Mockingjay's."""


class AudioAlbertObjective(ReconstructionObjective):
    """Audio ALBERT's objective (arXiv:2005.08575): L1 reconstruction of the masked frames."""

    config_type = AudioAlbertObjectiveConfig
    config: AudioAlbertObjectiveConfig
    encoder: AudioAlbert


class TeraObjectiveConfig(ReconstructionObjectiveConfig, frozen=True, kw_only=True):
    """Options of TERA's objective (arXiv:2007.06028); 0 disables an alteration.

    Attributes:
        mask_proportion: Share of frames that are masked in time (0.15).
        band_proportion: Widest masked band of columns as a share of them (0.2).
        noise_probability: Probability that noise is added to an utterance (0.15).
        noise_std: Standard deviation of the noise (0.2).
        loss_over: Whether the loss covers the altered values, or all.
    """

    band_proportion: float = 0.2
    noise_probability: float = 0.15
    noise_std: float = 0.2
    loss_over: Literal["altered", "all"] = "altered"

    def __post_init__(self) -> None:
        self.check_spans()
        shares = (self.mask_proportion, self.band_proportion, self.noise_probability)
        if not all(0 <= share <= 1 for share in shares) or not any(shares):
            raise ValueError(
                "mask_proportion, band_proportion and noise_probability must be from 0 to 1 and "
                f"not all 0, but are {shares}"
            )
        if self.noise_std <= 0:
            raise ValueError(f"noise_std must be above 0, but is {self.noise_std}")


class TeraObjective(ReconstructionObjective):
    """TERA's objective: L1 reconstruction of frames altered in time, frequency and magnitude."""

    config_type = TeraObjectiveConfig
    config: TeraObjectiveConfig
    encoder: Tera

    def alter(
        self, features: Tensor, num_frames: Sequence[int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        config, device = self.config, features.device
        altered = features
        counts = torch.zeros_like(features, dtype=torch.bool)
        if config.mask_proportion:
            altered, is_masked = super().alter(features, num_frames, generator)
            counts = counts | is_masked
        if config.band_proportion:
            bands = draw_bands(
                len(features),
                features.shape[2],
                max_proportion=config.band_proportion,
                generator=generator,
            ).to(device)
            altered = altered.masked_fill(bands.unsqueeze(1), 0.0)
            counts = counts | bands.unsqueeze(1)
        if config.noise_probability:
            noise, is_noisy = draw_noise(
                num_frames,
                features.shape[2],
                probability=config.noise_probability,
                std=config.noise_std,
                generator=generator,
            )
            altered = altered + noise.to(altered)
            counts = counts | is_noisy.to(device).view(-1, 1, 1)
        if config.loss_over == "all":
            counts = torch.ones_like(counts)
        if config.target is not None:
            # Columns of the target are not those of the features: a masked band selects all.
            counts = counts.any(dim=2, keepdim=True)
        return altered, counts
