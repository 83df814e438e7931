"""Reconstruction of altered frames: what Mockingjay, TERA and Audio ALBERT share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auricle.frontends import FbankConfig, LogMelConfig, extract
from auricle.models.bert_encoder import SpectralBert
from auricle.nn.activations import ACTIVATIONS
from auricle.nn.batch import Batch, Layout, as_ints
from auricle.nn.bert import BertConfig
from auricle.objectives.base import Loss, Objective, ObjectiveConfig, masked_mean, true_frames
from auricle.objectives.masking import draw_time_mask


class ReconstructionObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of the reconstruction of masked frames (Mockingjay, arXiv:1910.12638).

    Attributes:
        mask_proportion: Share of the frames that are masked (0.15).
        min_span: Least number of frames in a masked span (7; `mask_consecutive_min`).
        max_span: Largest number of frames in one (7; `mask_consecutive_max`).
        target: Features that are reconstructed, with as many frames as the encoder's own; None
            for those. Mockingjay's LinearLarge reconstructs the linear spectrum.
        initialise_encoder: Whether the encoder gets BERT's initial weights; False to go on from
            the weights it has.
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
        """Raise ValueError unless the spans' lengths make sense."""
        if not 1 <= self.min_span <= self.max_span:
            raise ValueError(
                "min_span must be at least 1 and max_span at least min_span, but they are "
                f"{self.min_span} and {self.max_span}"
            )


class SpecHead(nn.Module):
    """Hidden states to frames: linear, activation, layer norm, linear."""

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
    """Give linear layers and norms the initial weights of BERT (arXiv:1810.04805).

    Weights are normal with deviation `std`, from torch's own generator; biases are 0, norms 1.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


class ReconstructionObjective(Objective):
    """A head on the last layer reconstructs frames from altered ones, by L1 where it matters.

    Unless `initialise_encoder` is False, making the objective draws the encoder's weights anew.
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
        # The longest span must leave a frame to see.
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
            target = extract(waveforms, num_samples, self.config.target)
        altered, counts = self.alter(features, num_frames, generator)
        *_, state = self.encoder.bert(altered, Layout(num_frames))
        error = (self.head(state).float() - target.float()).abs()
        is_true = true_frames(num_frames, features.shape[1], features.device).unsqueeze(-1)
        share = masked_mean(counts.float().expand_as(error), is_true)
        return Loss(value=masked_mean(error, counts & is_true), metrics={"predicted_share": share})

    def alter(
        self, features: Tensor, num_frames: Sequence[int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Alter frames (B, T, D) and tell which values of the target enter the loss.

        Returns:
            The altered frames (B, T, D), and a mask that broadcasts to the target's shape.
        """
        mask = draw_time_mask(
            num_frames,
            proportion=self.config.mask_proportion,
            span=(self.config.min_span, self.config.max_span),
            generator=generator,
        ).to(features.device)
        return mask.apply(features), mask.is_masked.unsqueeze(-1)
