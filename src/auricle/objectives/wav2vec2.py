"""wav2vec 2.0: contrastive loss of masked frames and quantised latents (arXiv:2006.11477)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.models.waveform_transformer import Wav2Vec2, WaveformTransformerEncoder
from auricle.nn.batch import Batch, Layout
from auricle.nn.layers import dropout
from auricle.objectives.base import (
    Loss,
    Objective,
    ObjectiveConfig,
    gumbel_noise,
    masked_mean,
    straight_through_choice,
    valid_frames,
)

INITIAL_STD = 0.02
"""Standard deviation of the Transformer's initial weights (BERT; fairseq's `init_bert_params`)."""

ENTROPY_EPS = 1e-7
"""Added to probabilities under the logarithm (fairseq)."""


class Wav2Vec2ObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of wav2vec 2.0's objective; the defaults are Base's (section 4.2 and fairseq).

    Attributes:
        initialise_encoder: Whether to initialise the encoder as the authors do; False to continue
            from its weights.
        mask_start_probability: Share of frames that start a masked span (p = 0.065, section 4.2;
            fairseq: `mask_prob / mask_length`).
        mask_span: Frames of a span (M = 10; `mask_length`).
        min_spans: Minimum number of spans per utterance (`min_masks`, 2 in fairseq's model).
        num_distractors: Distractors per masked frame, from the same utterance (K = 100;
            `num_negatives`).
        logit_temperature: Temperature of the similarities (kappa = 0.1; `logit_temp`).
        projection_dim: Width in which frames are compared (256, Large 768; `final_dim`).
        num_groups: Codebooks of the quantiser (G = 2; `latent_groups`).
        num_entries: Entries of a codebook (V = 320; `latent_vars`).
        quantized_dim: Width of the concatenated code vectors, or None for `projection_dim`
            (`latent_dim`).
        gumbel_temperature: Temperature of the Gumbel softmax: initial value, final value (Large
            0.1), and factor per update (`latent_temp`).
        diversity_weight: Weight of the diversity loss (alpha = 0.1; the first of `loss_weights`).
        penalty_weight: Weight of the latents' mean square (10; the second of `loss_weights`).
        feature_gradient: Factor of the extractor's gradient (`feature_grad_mult`).
        feature_dropout: Dropout of the latents before the quantiser (`dropout_features`).
    """

    initialise_encoder: bool = True
    mask_start_probability: float = 0.065
    mask_span: int = 10
    min_spans: int = 2
    num_distractors: int = 100
    logit_temperature: float = 0.1
    projection_dim: int = 256
    num_groups: int = 2
    num_entries: int = 320
    quantized_dim: int | None = None
    gumbel_temperature: tuple[float, float, float] = (2.0, 0.5, 0.999995)
    diversity_weight: float = 0.1
    penalty_weight: float = 10.0
    feature_gradient: float = 0.1
    feature_dropout: float = 0.1

    def __post_init__(self) -> None:
        checks = (
            ("mask_start_probability", 0 <= self.mask_start_probability <= 1, "between 0 and 1"),
            ("mask_span", self.mask_span >= 1, "at least 1"),
            ("min_spans", self.min_spans >= 2, "at least 2, for a frame and its distractor"),
            ("num_distractors", self.num_distractors >= 1, "at least 1"),
            ("logit_temperature", self.logit_temperature > 0, "above 0"),
            ("projection_dim", self.projection_dim >= 1, "at least 1"),
            ("num_groups", self.num_groups >= 1, "at least 1"),
            ("num_entries", self.num_entries >= 1, "at least 1"),
            ("gumbel_temperature", min(self.gumbel_temperature) > 0, "above 0 throughout"),
            ("feature_gradient", self.feature_gradient >= 0, "at least 0"),
            ("feature_dropout", 0 <= self.feature_dropout < 1, "at least 0 and below 1"),
        )
        for name, holds, expected in checks:
            if not holds:
                raise ValueError(f"{name} must be {expected}, but is {getattr(self, name)!r}")
        if self.code_dim % self.num_groups or self.code_dim < 1:
            raise ValueError(
                f"code vectors of {self.code_dim} columns cannot be divided evenly among "
                f"{self.num_groups} groups"
            )

    @property
    def code_dim(self) -> int:
        """Width of the concatenated code vectors."""
        return self.projection_dim if self.quantized_dim is None else self.quantized_dim

    def temperature(self, step: int) -> float:
        """Temperature of the Gumbel softmax after `step` updates."""
        start, end, decay = self.gumbel_temperature
        return max(start * decay**step, end)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedFrames:
    """Masked frames of a batch and the distractors of each.

    Attributes:
        mask: (B, T), True on masked frames; never on padding.
        positions: (B, M), masked frames of each utterance in order; M is the largest count.
        is_masked: (B, M), False where an utterance has fewer than M.
        distractors: (B, M, K), int64 indices into the columns of `positions`.
    """

    mask: Tensor
    positions: Tensor
    is_masked: Tensor
    distractors: Tensor

    def to(self, device: torch.device) -> MaskedFrames:
        """Copy to `device`."""
        return MaskedFrames(
            mask=self.mask.to(device),
            positions=self.positions.to(device),
            is_masked=self.is_masked.to(device),
            distractors=self.distractors.to(device),
        )

    def select(self, x: Tensor) -> Tensor:
        """Masked frames (B, M, D) of `x` (B, T, D)."""
        return x.gather(1, self.positions.unsqueeze(2).expand(-1, -1, x.shape[2]))


class GumbelCodes(nn.Module):
    """Product quantiser: the code vector of the largest logit of each group (section 2, eq. 1)."""

    def __init__(self, config: Wav2Vec2ObjectiveConfig, *, dim: int) -> None:
        super().__init__()
        self.num_groups, self.num_entries = config.num_groups, config.num_entries
        self.logits = nn.Linear(dim, self.num_groups * self.num_entries)
        self.vectors = nn.Parameter(
            torch.empty(self.num_groups, self.num_entries, config.code_dim // self.num_groups)
        )
        # As in fairseq: large logits spread the first choices over the entries.
        nn.init.normal_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        nn.init.uniform_(self.vectors)

    def forward(
        self, x: Tensor, *, temperature: float, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise frames.

        Args:
            x: (B, M, D).
            temperature: Temperature of the Gumbel softmax.
            generator: Source of the Gumbel noise; None for no noise, as in evaluation.

        Returns:
            Code vectors (B, M, code_dim), one-hot choices (B, M, G, V), and the probabilities
            (B, M, G, V) without noise or temperature, both float32.
        """
        logits = self.logits(x).unflatten(-1, (self.num_groups, self.num_entries)).float()
        noise = None
        if generator is not None:
            noise = gumbel_noise(logits.shape, generator, logits.device)
        choices = straight_through_choice(logits, temperature=temperature, noise=noise)
        vectors = torch.einsum("bmgv,gvd->bmgd", choices, self.vectors.to(choices.dtype))
        return vectors.flatten(2), choices, logits.softmax(dim=-1)


class Wav2Vec2Objective(Objective):
    """Each masked frame identifies its quantised latent among those of other masked frames."""

    config_type = Wav2Vec2ObjectiveConfig
    encoder: Wav2Vec2
    config: Wav2Vec2ObjectiveConfig

    def __init__(self, encoder: Wav2Vec2, config: Wav2Vec2ObjectiveConfig) -> None:
        super().__init__(encoder, config)
        width = encoder.config.transformer.hidden_size
        latent_dim = encoder.config.extractor.dim
        self.mask_embedding = nn.Parameter(torch.rand(width))
        self.quantizer = GumbelCodes(config, dim=latent_dim)
        self.project_context = nn.Linear(width, config.projection_dim)
        self.project_codes = nn.Linear(config.code_dim, config.projection_dim)
        if config.initialise_encoder:
            initialise(encoder)

    @property
    def min_samples(self) -> int:
        # Two spans must start at different frames.
        fewest = self.config.mask_span + 1
        return max(
            self.encoder.min_samples, self.encoder.config.extractor.geometry.min_samples(fewest)
        )

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        config = self.config
        num_frames = [self.encoder.num_frames(count) for count in num_samples]
        frames = draw_masked_frames(num_frames, config, generator).to(waveforms.device)
        latents = self.encoder.latents(Batch.padded(waveforms, num_samples)).values
        latents = scale_gradient(latents, config.feature_gradient)
        squares = latents.float().square()
        is_valid = valid_frames(num_frames, squares.shape[1], squares.device)
        penalty = masked_mean(squares, is_valid.unsqueeze(2))

        normed = self.encoder.projection_norm(latents)
        contexts = self.project_context(
            frames.select(self._contexts(normed, frames.mask, num_frames, generator))
        )
        targets = dropout(frames.select(normed), config.feature_dropout, self.training)
        temperature = config.temperature(step)
        vectors, choices, probabilities = self.quantizer(
            targets, temperature=temperature, generator=generator if self.training else None
        )
        contrast, accuracy = contrastive_loss(
            contexts,
            self.project_codes(vectors),
            choices.argmax(dim=-1),
            frames,
            temperature=config.logit_temperature,
        )
        used = perplexities(probabilities, frames.is_masked)
        diversity = 1 - used.sum() / (config.num_groups * config.num_entries)
        value = contrast + config.diversity_weight * diversity + config.penalty_weight * penalty
        metrics = {
            "contrastive": contrast,
            "diversity": diversity,
            "feature_penalty": penalty,
            "accuracy": accuracy,
            "code_perplexity": perplexities(choices, frames.is_masked).mean(),
            "temperature": value.new_tensor(temperature),
        }
        return Loss(value=value, metrics={name: part.detach() for name, part in metrics.items()})

    def _contexts(
        self,
        normed: Tensor,
        mask: Tensor,
        num_frames: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Output (B, T, D) of the Transformer for latents with masked frames replaced.

        Layers that training leaves out come from `generator`, or torch's own.
        """
        x = self.encoder.projection(normed)
        x = dropout(x, self.encoder.config.projection_dropout, self.training)
        x = torch.where(mask.unsqueeze(2), self.mask_embedding.to(x.dtype), x)
        contexts: Tensor
        *_, contexts = self.encoder.transformer(x, Layout(num_frames), generator)
        return contexts


@torch.no_grad()
def initialise(encoder: WaveformTransformerEncoder) -> None:
    """Initialise an encoder as fairseq does, from torch's global generator.

    Convolutions of the extractor by He's rule (arXiv:1502.01852); linear layers of the Transformer
    normal with standard deviation 0.02 and zero bias, as BERT's. Norms and positions are unchanged.
    """
    for module in encoder.extractor.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)
    for module in encoder.transformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=INITIAL_STD)
            nn.init.zeros_(module.bias)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Identity whose gradient is multiplied by `factor`."""
    if not x.requires_grad or factor == 1.0:
        return x
    x = x.view_as(x)
    x.register_hook(lambda gradient: gradient * factor)  # type: ignore[no-untyped-call]
    return x


def draw_masked_frames(
    num_frames: Sequence[int], config: Wav2Vec2ObjectiveConfig, generator: torch.Generator
) -> MaskedFrames:
    """Draw masked spans and distractors, on the CPU (section 3.1).

    Args:
        num_frames: Valid frames of each utterance, more than `config.mask_span`.
        config: Probability and length of spans, and number of distractors.
        generator: Source of the draws.
    """
    mask = draw_spans(
        num_frames,
        probability=config.mask_start_probability,
        span=config.mask_span,
        min_spans=config.min_spans,
        generator=generator,
    )
    counts = mask.sum(dim=1)
    most = int(counts.max())
    # A stable sort moves the masked frames of a row to the front and keeps their order.
    positions = mask.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    return MaskedFrames(
        mask=mask,
        positions=positions,
        is_masked=torch.arange(most) < counts.unsqueeze(1),
        distractors=draw_distractors(counts, config.num_distractors, generator),
    )


def draw_spans(
    num_frames: Sequence[int],
    *,
    probability: float,
    span: int,
    min_spans: int,
    generator: torch.Generator,
) -> Tensor:
    """Mask (B, T) of spans that may overlap and end inside their utterance.

    A share `probability` of the frames of an utterance are starts, all different; the fractional
    part is rounded up with its own probability (fairseq's `compute_mask_indices`).
    """
    mask = torch.zeros(len(num_frames), max(num_frames), dtype=torch.bool)
    offsets = torch.arange(span)
    for row, count in enumerate(num_frames):
        chance = torch.rand((), generator=generator).item()
        num_spans = max(int(probability * count + chance), min_spans)
        starts = torch.randperm(count - span + 1, generator=generator)[:num_spans]
        mask[row, (starts.unsqueeze(1) + offsets).flatten()] = True
    return mask


def draw_distractors(counts: Tensor, num_distractors: int, generator: torch.Generator) -> Tensor:
    """Indices (B, M, K) of others among the `counts` (B,) items of each row, with replacement.

    M is the largest count. In rows with fewer items the remaining draws lie in 0..M-1.
    """
    most = int(counts.max())
    others = (counts - 1).clamp(min=1).view(-1, 1, 1)
    # In float64, as a float32 product may round up to the count.
    uniform = torch.rand(
        len(counts), most, num_distractors, generator=generator, dtype=torch.float64
    )
    drawn = (uniform * others).long()
    own = torch.arange(most).view(1, -1, 1)
    return (drawn + (drawn >= own)).clamp(max=most - 1)


def contrastive_loss(
    contexts: Tensor, targets: Tensor, codes: Tensor, frames: MaskedFrames, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE over cosine similarities (eq. 3), and its accuracy.

    A distractor with the codes of the target is left out.

    Args:
        contexts: (B, M, D), masked frames of the Transformer's output.
        targets: (B, M, D), their quantised latents.
        codes: (B, M, G), codes of the targets.
        frames: Mask of the valid ones among the M, and their distractors.
        temperature: Divisor of the similarities.
    """
    # All pairs (B, M, M) need less memory than K vectors per frame. Not in half precision.
    with torch.autocast(contexts.device.type, enabled=False):
        similarities = F.normalize(contexts.float(), dim=2) @ F.normalize(
            targets.float(), dim=2
        ).transpose(1, 2)
    is_same = (codes.unsqueeze(2) == codes.unsqueeze(1)).all(dim=3)
    others = similarities.gather(2, frames.distractors)
    others = others.masked_fill(is_same.gather(2, frames.distractors), -torch.inf)
    own = similarities.diagonal(dim1=1, dim2=2).unsqueeze(2)
    logits = torch.cat([own, others], dim=2) / temperature
    losses = -logits.log_softmax(dim=2)[..., 0]
    is_found = logits.argmax(dim=2) == 0
    return masked_mean(losses, frames.is_masked), masked_mean(is_found.float(), frames.is_masked)


def perplexities(probabilities: Tensor, is_masked: Tensor) -> Tensor:
    """Perplexity of code usage in each group (G,): exp of the entropy of the mean probabilities.

    Args:
        probabilities: (B, M, G, V).
        is_masked: (B, M), mask of the frames that count.
    """
    weights = is_masked.to(probabilities.dtype)
    shares = torch.einsum("bmgv,bm->gv", probabilities, weights) / weights.sum()
    entropies: Tensor = -(shares * (shares + ENTROPY_EPS).log()).sum(dim=1)
    return entropies.exp()
