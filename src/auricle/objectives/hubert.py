"""HuBERT: prediction of the units of masked frames (arXiv:2106.07447)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import SAMPLE_RATE
from auricle.models.waveform_transformer import Hubert
from auricle.nn.batch import Batch, Layout
from auricle.nn.layers import dropout
from auricle.objectives.base import (
    Loss,
    Objective,
    ObjectiveConfig,
    UnitTargets,
    masked_mean,
    valid_frames,
)
from auricle.objectives.wav2vec2 import draw_spans, initialise, scale_gradient

EMBEDDING_STD = 0.1
"""Standard deviation of the initial embeddings of units. fairseq draws them from 0 to 1, where all
point alike: small trainings would spend their updates on turning them apart."""

FILTER_OVERLAP = 0.6
"""Standard deviation of a filter's pass band, in distances to the next filter's frequency."""


class HubertObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of HuBERT's objective; the defaults are Base's (section 4.2 and fairseq).

    Attributes:
        targets: Codebooks whose units are predicted, each by its own head; several are a cluster
            ensemble (section 2.4).
        initialise_encoder: Whether to initialise the encoder as the authors do; False to continue
            from its weights, as for a next iteration.
        mel_filters: Whether the first convolution begins as windowed cosines and sines at
            frequencies that are even on the mel scale (as that of LEAF, arXiv:2101.08596), for
            small trainings; at random in the paper.
        mask_start_probability: Share of frames that start a masked span (p = 8 %; fairseq:
            `mask_prob / mask_length`).
        mask_span: Frames of a span (l = 10; `mask_length`).
        min_spans: Minimum number of spans per utterance (2 in fairseq's model).
        logit_temperature: Temperature of the similarities (tau = 0.1; `logit_temp`).
        projection_dim: Width in which frames and units are compared (256, Large 768, X-Large 1024;
            `final_dim`).
        masked_weight: Weight of the loss over masked frames (alpha, 1; `pred_masked_weight`).
        unmasked_weight: Weight of the loss over the other frames (1 - alpha, 0;
            `pred_nomask_weight`).
        penalty_weight: Weight of the latents' mean square (10; `loss_weights`).
        feature_gradient: Factor of the extractor's gradient (0.1, Large and X-Large 1;
            `feature_grad_mult`).
    """

    targets: tuple[UnitTargets, ...]
    initialise_encoder: bool = True
    mel_filters: bool = False
    mask_start_probability: float = 0.08
    mask_span: int = 10
    min_spans: int = 2
    logit_temperature: float = 0.1
    projection_dim: int = 256
    masked_weight: float = 1.0
    unmasked_weight: float = 0.0
    penalty_weight: float = 10.0
    feature_gradient: float = 0.1

    def __post_init__(self) -> None:
        checks = (
            ("targets", len(self.targets) >= 1, "one codebook or more"),
            ("mask_start_probability", 0 <= self.mask_start_probability <= 1, "between 0 and 1"),
            ("mask_span", self.mask_span >= 1, "at least 1"),
            ("min_spans", self.min_spans >= 1, "at least 1"),
            ("logit_temperature", self.logit_temperature > 0, "above 0"),
            ("projection_dim", self.projection_dim >= 1, "at least 1"),
            ("masked_weight", self.masked_weight >= 0, "at least 0"),
            ("unmasked_weight", self.unmasked_weight >= 0, "at least 0"),
            ("penalty_weight", self.penalty_weight >= 0, "at least 0"),
            ("feature_gradient", self.feature_gradient >= 0, "at least 0"),
        )
        for name, holds, expected in checks:
            if not holds:
                raise ValueError(f"{name} must be {expected}, but is {getattr(self, name)!r}")
        if self.masked_weight + self.unmasked_weight == 0:
            raise ValueError("masked_weight or unmasked_weight must be above 0, but both are 0")

    @property
    def unit_targets(self) -> tuple[UnitTargets, ...]:
        return self.targets


class UnitHead(nn.Module):
    """Cosine similarities of projected frames with the embeddings of a codebook (eq. 3)."""

    def __init__(self, dim: int, projection_dim: int, num_units: int, temperature: float) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, projection_dim)
        self.embeddings = nn.Parameter(torch.empty(num_units, projection_dim))
        nn.init.normal_(self.embeddings, std=EMBEDDING_STD)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., V), float32, of frames (..., D)."""
        projected = self.projection(x)
        # Not in half precision.
        with torch.autocast(x.device.type, enabled=False):
            frames = F.normalize(projected.float(), dim=-1)
            logits: Tensor = frames @ F.normalize(self.embeddings.float(), dim=-1).T
        return logits / self.temperature


class HubertObjective(Objective):
    """Cross entropy of the units of masked frames, and of the others by a weight of their own."""

    config_type = HubertObjectiveConfig
    encoder: Hubert
    config: HubertObjectiveConfig

    def __init__(self, encoder: Hubert, config: HubertObjectiveConfig) -> None:
        super().__init__(encoder, config)
        width = encoder.config.transformer.hidden_size
        self.mask_embedding = nn.Parameter(torch.rand(width))
        self.heads = nn.ModuleList(
            UnitHead(width, config.projection_dim, target.num_units, config.logit_temperature)
            for target in config.targets
            for _ in range(target.num_stages)
        )
        if config.initialise_encoder:
            initialise(encoder)
        if config.mel_filters:
            first = encoder.extractor.convs[0]
            assert isinstance(first, nn.Conv1d)
            begin_as_mel_filters(first.weight)

    @property
    def min_samples(self) -> int:
        geometry = self.encoder.config.extractor.geometry
        return max(self.encoder.min_samples, geometry.min_samples(self.config.mask_span))

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
        targets: Tensor | None = None,
    ) -> Loss:
        """Compute the loss; `targets` (B, T, K) are the units of each frame, -1 on padding."""
        config = self.config
        num_frames = [self.encoder.num_frames(count) for count in num_samples]
        if targets is None or targets.shape[:2] != (len(num_frames), max(num_frames)):
            found = "none" if targets is None else tuple(targets.shape)
            raise ValueError(
                f"HuBERT needs units of shape {(len(num_frames), max(num_frames), len(self.heads))}"
                f" (utterances, frames, codebooks), but got {found}"
            )
        mask = draw_spans(
            num_frames,
            probability=config.mask_start_probability,
            span=config.mask_span,
            min_spans=config.min_spans,
            generator=generator,
        ).to(waveforms.device)
        latents = self.encoder.latents(Batch.padded(waveforms, num_samples)).values
        latents = scale_gradient(latents, config.feature_gradient)
        is_valid = valid_frames(num_frames, latents.shape[1], latents.device)
        penalty = masked_mean(latents.float().square(), is_valid.unsqueeze(2))
        contexts = self._contexts(latents, mask, num_frames, generator)
        value = config.penalty_weight * penalty
        metrics = {"feature_penalty": penalty}
        for name, weight, is_counted in (
            ("masked", config.masked_weight, mask),
            ("unmasked", config.unmasked_weight, is_valid & ~mask),
        ):
            if weight:
                loss, accuracy = self._prediction(contexts[is_counted], targets[is_counted])
                value = value + weight * loss
                metrics |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
        return Loss(value=value, metrics={name: part.detach() for name, part in metrics.items()})

    def _contexts(
        self, latents: Tensor, mask: Tensor, num_frames: Sequence[int], generator: torch.Generator
    ) -> Tensor:
        """Output (B, T, D) of the Transformer for latents with masked frames replaced.

        Layers that training leaves out come from `generator`.
        """
        x = self.encoder.projection(self.encoder.projection_norm(latents))
        x = dropout(x, self.encoder.config.projection_dropout, self.training)
        x = torch.where(mask.unsqueeze(2), self.mask_embedding.to(x.dtype), x)
        contexts: Tensor
        *_, contexts = self.encoder.transformer(x, Layout(num_frames), generator)
        return contexts

    def _prediction(self, contexts: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, a mean over frames and a sum over codebooks, and mean accuracy over both.

        Args:
            contexts: (N, D).
            targets: (N, K).
        """
        losses, hits = [], []
        for head, units in zip(self.heads, targets.unbind(1), strict=True):
            logits = head(contexts)
            # A sum, since the mean of no frames is NaN.
            summed = F.cross_entropy(logits, units, reduction="sum")
            losses.append(summed / max(len(units), 1))
            hits.append((logits.argmax(dim=1) == units).float().sum() / max(len(units), 1))
        return torch.stack(losses).sum(), torch.stack(hits).mean()


@torch.no_grad()
def begin_as_mel_filters(weight: Tensor) -> None:
    """Set filters (C, 1, size) to Gaussian-windowed cosines and, in the second half, sines.

    Frequencies are even on the mel scale (O'Shaughnessy, 1987) up to the Nyquist frequency. Windows
    are as long as the distance to the next frequency wants, and no longer than the filter. Each has
    the energy that He's rule gives it on average.

    Raises:
        ValueError: The number of filters is odd.
    """
    num_filters, _, size = weight.shape
    if num_filters % 2:
        raise ValueError(f"mel_filters are pairs, but the first convolution has {num_filters}")
    device = weight.device
    highest = 1127 * math.log1p(SAMPLE_RATE / 2 / 700)
    mels = torch.arange(num_filters // 2 + 1, device=device) + 1
    frequencies = 700 * (mels * highest / (num_filters // 2 + 2) / 1127).expm1()
    widths = SAMPLE_RATE / (2 * math.pi * FILTER_OVERLAP * frequencies.diff())
    times = (torch.arange(size, device=device) - (size - 1) / 2).unsqueeze(0)
    windows = (-0.5 * (times / widths.clamp(max=size / 6).unsqueeze(1)).square()).exp()
    phases = 2 * math.pi / SAMPLE_RATE * frequencies[:-1].unsqueeze(1) * times
    filters = torch.cat([windows * phases.cos(), windows * phases.sin()])
    weight.copy_((F.normalize(filters, dim=1) * math.sqrt(2)).unsqueeze(1))
