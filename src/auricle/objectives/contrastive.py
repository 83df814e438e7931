"""Contrastive prediction of future frames: InfoNCE, binary NCE, and the loss of wav2vec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.models.conv_encoder import ConvEncoder
from auricle.models.wav2vec import Wav2Vec
from auricle.objectives.base import Loss, Objective, ObjectiveConfig, masked_mean


def draw_negatives(
    num_frames: Sequence[int],
    num_negatives: int,
    *,
    across_batch: bool,
    generator: torch.Generator,
) -> Tensor:
    """Draw for every frame other true frames, uniformly and with replacement.

    Args:
        num_frames: True length of each utterance of the batch.
        num_negatives: N, how many frames to draw for each frame.
        across_batch: Whether to draw from all utterances, or from the frame's own alone.
        generator: Source of the draws, on the CPU.

    Returns:
        Indices (B, T, N), int64, on the CPU: frame t of utterance b is b * T + t, with T the
        longest length. A true frame is never its own negative; it has to have another to draw.
    """
    lengths = torch.tensor(num_frames)
    max_frames = max(num_frames)
    # Ranks count true frames alone: of the utterance, or of the whole batch.
    starts = lengths.cumsum(0) - lengths if across_batch else torch.zeros_like(lengths)
    counts = lengths.sum().expand_as(lengths) if across_batch else lengths
    own_rank = starts.unsqueeze(1) + torch.arange(max_frames)
    uniform = torch.rand(len(num_frames), max_frames, num_negatives, generator=generator)
    others = (counts - 1).clamp(min=1).view(-1, 1, 1)
    # In float64, since a float32 product may round up to the count itself.
    ranks = (uniform.double() * others).long()
    ranks = ranks + (ranks >= own_rank.unsqueeze(2)).long()
    # Padding draws too, and may draw past the end; nobody looks at what it draws.
    ranks = torch.minimum(ranks, (counts - 1).view(-1, 1, 1))
    if not across_batch:
        return ranks + (torch.arange(len(num_frames)) * max_frames).view(-1, 1, 1)
    is_true = torch.arange(max_frames) < lengths.unsqueeze(1)
    return is_true.flatten().nonzero().squeeze(1)[ranks]


def at_predicted_frames(predictions: Sequence[Tensor], steps: Sequence[int]) -> Tensor:
    """Move predictions from the frames that make them to the frames that they are about.

    Args:
        predictions: Per step (B, T, D), at frame t the prediction of frame t + step.
        steps: How many frames ahead each of them is, from 1 to T - 1.

    Returns:
        (B, T, K, D), at frame t and step k the prediction of frame t; 0 where there is none.
    """
    moved = [
        F.pad(prediction[:, :-step], (0, 0, step, 0))
        for prediction, step in zip(predictions, steps, strict=True)
    ]
    return torch.stack(moved, dim=2)


def contrast(predictions: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Products of predictions with the frames that they are about, and with negatives.

    Args:
        predictions: (B, T, K, D), laid out by predicted frame.
        targets: (B, T, D), the frames.
        negatives: Indices (B, T, N) of other frames, as `draw_negatives` gives them.

    Returns:
        (B, T, K, 1 + N) in float32, the predicted frame's own score first.
    """
    own = torch.arange(negatives.shape[0] * negatives.shape[1]).view(*negatives.shape[:2], 1)
    indices = torch.cat([own, negatives], dim=2).to(targets.device)
    candidates = F.embedding(indices, targets.flatten(0, 1))
    return torch.matmul(predictions, candidates.transpose(2, 3)).float()


def info_nce(scores: Tensor, is_predicted: Tensor) -> Tensor:
    """Cross-entropy of the true frame among the candidates (CPC, arXiv:1807.03748, eq. 4).

    Args:
        scores: (..., 1 + N), the true frame's first.
        is_predicted: Booleans (...), which of them count.

    Returns:
        Mean over the predictions that count.
    """
    return masked_mean(scores.logsumexp(dim=-1) - scores[..., 0], is_predicted)


def binary_nce(scores: Tensor, is_predicted: Tensor, negative_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy of true frame and negatives (wav2vec, arXiv:1904.05862, eq. 1).

    Args:
        scores: (..., 1 + N), the true frame's first.
        is_predicted: Booleans (...), which of them count.
        negative_weight: Weight of each negative.

    Returns:
        Sum over the candidates, mean over the predictions that count.
    """
    others = F.softplus(scores[..., 1:]).sum(dim=-1)
    return masked_mean(F.softplus(-scores[..., 0]) + negative_weight * others, is_predicted)


def accuracy(scores: Tensor, is_predicted: Tensor) -> Tensor:
    """Share of the predictions that count which score the true frame above all negatives."""
    is_right = scores[..., 0] > scores[..., 1:].amax(dim=-1)
    return masked_mean(is_right.float(), is_predicted).detach()


class FutureContrastConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of the loss that wav2vec and vq-wav2vec share; the defaults are wav2vec's.

    Attributes:
        num_steps: K, how many frames are predicted from each context (`prediction_steps`; 12).
        first_step: How far ahead the first of them is (`offset`); None for the first frame that
            sees no sample which the context's own frame sees (`auto`: 3 for the published
            sizes).
        num_negatives: Other frames of the same utterance for each predicted frame
            (`num_negatives`; 10).
        num_batch_negatives: Further frames, from the whole batch (`cross_sample_negatives`; 0).
        loss: Binary cross-entropy of each candidate, or cross-entropy among the candidates
            (`infonce`).
        is_balanced: Whether all negatives together weigh as much as the true frame in the binary
            form, rather than each (`balanced_classes`).
        context_dropout: Dropout of the contexts, in training (`dropout_agg`).
        prediction_dropout: Dropout of the predictions, in training (`dropout`).
    """

    num_steps: int = 12
    first_step: int | None = None
    num_negatives: int = 10
    num_batch_negatives: int = 0
    loss: Literal["binary", "info_nce"] = "binary"
    is_balanced: bool = False
    context_dropout: float = 0.0
    prediction_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.num_steps < 1 or (self.first_step is not None and self.first_step < 1):
            raise ValueError(
                "num_steps and first_step must be at least 1, but are "
                f"{self.num_steps} and {self.first_step}"
            )
        negatives = (self.num_negatives, self.num_batch_negatives)
        if min(negatives) < 0 or sum(negatives) < 1:
            raise ValueError(
                "num_negatives and num_batch_negatives must be at least 0, and not both 0, but "
                f"are {negatives[0]} and {negatives[1]}"
            )


class FutureContrastObjective(Objective):
    """Base of the losses by which a convolutional encoder tells frames to come from others.

    One affine layer per step predicts from each context; the mean runs over all predictions of
    true frames.
    """

    config: FutureContrastConfig
    encoder: ConvEncoder

    def __init__(self, encoder: ConvEncoder, config: FutureContrastConfig) -> None:
        super().__init__(encoder, config)
        aggregator = encoder.config.aggregator
        strides = [stride for _, _, stride in aggregator.layers]
        if max(strides) > 1:
            raise ValueError(
                "contexts must come at the rate of the frames that they predict, so aggregator "
                f"layers must have stride 1, but have {strides}"
            )
        dim = encoder.config.extractor.dim
        self.predict = nn.Linear(aggregator.layers[-1][0], config.num_steps * dim)
        initialise_predictions(self.predict)

    @property
    def first_step(self) -> int:
        """How many frames ahead the nearest predicted frame is."""
        if self.config.first_step is not None:
            return self.config.first_step
        geometry = self.encoder.config.extractor.geometry
        return -(-geometry.window_samples // geometry.hop_samples)

    @property
    def min_samples(self) -> int:
        geometry = self.encoder.config.extractor.geometry
        return max(geometry.min_samples(self.first_step + 1), self.encoder.min_samples)

    def future_contrast(
        self, frames: Tensor, num_frames: Sequence[int], generator: torch.Generator
    ) -> Loss:
        """The loss of predicting `frames` from the contexts of those before.

        Args:
            frames: (B, D, T), what the aggregator reads and what is predicted.
            num_frames: True length of each utterance.
            generator: Source of the negatives.
        """
        config = self.config
        *_, (_, context) = self.encoder.contexts(frames, num_frames)
        # Batches of short utterances have no frame so far ahead as the last steps.
        steps = range(self.first_step, min(self.first_step + config.num_steps, max(num_frames)))
        predictions = at_predicted_frames(self.predictions(context)[: len(steps)], steps)
        negatives = self._negatives(num_frames, generator)
        scores = contrast(predictions, frames.transpose(1, 2), negatives)
        is_predicted = _is_predicted(num_frames, steps).to(scores.device)
        if config.loss == "info_nce":
            value = info_nce(scores, is_predicted)
        else:
            weight = 1 / negatives.shape[2] if config.is_balanced else 1.0
            value = binary_nce(scores, is_predicted, weight)
        metrics = {
            "accuracy": accuracy(scores, is_predicted),
            "accuracy_first_step": accuracy(scores[:, :, 0], is_predicted[:, :, 0]),
        }
        return Loss(value=value, metrics=metrics)

    def predictions(self, context: Tensor) -> tuple[Tensor, ...]:
        """Per step the prediction (B, T, D) that each context of (B, T, C) makes."""
        config = self.config
        x = F.dropout(context, config.context_dropout, self.training)
        x = F.dropout(self.predict(x), config.prediction_dropout, self.training)
        return x.chunk(config.num_steps, dim=2)

    def _negatives(self, num_frames: Sequence[int], generator: torch.Generator) -> Tensor:
        counts = {False: self.config.num_negatives, True: self.config.num_batch_negatives}
        drawn = [
            draw_negatives(num_frames, count, across_batch=across_batch, generator=generator)
            for across_batch, count in counts.items()
        ]
        return torch.cat(drawn, dim=2)


def initialise_predictions(layer: nn.Linear) -> None:
    """Draw the weights as fairseq's transposed convolution over the steps draws them.

    They are uniform up to one over the square root of its outputs, which keeps first scores
    small; those of a plain linear layer are larger by the square root of the number of steps.
    """
    bound = layer.out_features**-0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -bound, bound)


def _is_predicted(num_frames: Sequence[int], steps: range) -> Tensor:
    """Booleans (B, T, K): whether frame t is a true one, and has a context k frames before."""
    frames = torch.arange(max(num_frames)).unsqueeze(1)
    return (frames >= torch.tensor(steps)) & (frames < torch.tensor(num_frames).view(-1, 1, 1))


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
        z, num_frames = self.encoder.frames(waveforms[:, : max(num_samples)], num_samples)
        return self.future_contrast(z, num_frames, generator)
