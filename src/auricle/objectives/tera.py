"""TERA: frames altered in time, frequency and magnitude (arXiv:2007.06028)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from auricle.models.tera import Tera
from auricle.objectives.masking import draw_bands, draw_noise
from auricle.objectives.reconstruction import (
    ReconstructionObjective,
    ReconstructionObjectiveConfig,
)


class TeraObjectiveConfig(ReconstructionObjectiveConfig, frozen=True, kw_only=True):
    """Options of TERA's loss (arXiv:2007.06028); 0 switches an alteration off.

    Attributes:
        mask_proportion: Share of the frames that are altered in time (0.15).
        band_proportion: Widest band of columns that is hidden, as a share of them (0.2).
        noise_probability: That an utterance's frames get noise (0.15).
        noise_std: Standard deviation of that noise (0.2).
        loss_over: Whether altered values alone are predicted, or all.
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
    """The unaltered frames are reconstructed, by L1 where they were altered or everywhere."""

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
            # The target's columns are not those of the features: a hidden band asks for them all.
            counts = counts.any(dim=2, keepdim=True)
        return altered, counts
