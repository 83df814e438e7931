"""Contrastive prediction of future frames: InfoNCE, binary NCE, and the objective of wav2vec.

Tensors are indexed by the predicted frame: position t, k holds the prediction of frame t made
k frames earlier, so that all steps share the negatives of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.models.wav2vec import ConvEncoder, Wav2Vec
from auricle.nn.batch import Batch, as_ints
from auricle.nn.layers import dropout
from auricle.objectives.base import Loss, Objective, ObjectiveConfig, masked_mean


def draw_negatives(
    num_frames: Sequence[int],
    num_negatives: int,
    *,
    across_batch: bool,
    generator: torch.Generator,
) -> Tensor:
    """Draw negatives for each frame, uniformly and with replacement from the other valid frames.

    Args:
        num_frames: Valid frames of each utterance of the batch.
        num_negatives: N, the number of negatives per frame.
        across_batch: Whether to draw from all utterances, or only from the utterance of the frame.
        generator: Source of the draws, on the CPU.

    Returns:
        Indices (B, T, N), int64, on the CPU: frame t of utterance b is b * T + t, with T the
        longest length. A valid frame is never its own negative, so there must be two of them.
    """
    lengths = torch.tensor(num_frames)
    max_frames = max(num_frames)
    # Ranks number the valid frames of the utterance, or of the whole batch.
    starts = lengths.cumsum(0) - lengths if across_batch else torch.zeros_like(lengths)
    counts = lengths.sum().expand_as(lengths) if across_batch else lengths
    own_rank = starts.unsqueeze(1) + torch.arange(max_frames)
    uniform = torch.rand(len(num_frames), max_frames, num_negatives, generator=generator)
    others = (counts - 1).clamp(min=1).view(-1, 1, 1)
    # In float64, as a float32 product may round up to the count.
    ranks = (uniform.double() * others).long()
    ranks = ranks + (ranks >= own_rank.unsqueeze(2)).long()
    # Draws of padding are discarded, but their indices must be in range.
    ranks = torch.minimum(ranks, (counts - 1).view(-1, 1, 1))
    if not across_batch:
        return ranks + (torch.arange(len(num_frames)) * max_frames).view(-1, 1, 1)
    is_valid = torch.arange(max_frames) < lengths.unsqueeze(1)
    return is_valid.flatten().nonzero().squeeze(1)[ranks]


def at_predicted_frames(predictions: Sequence[Tensor], steps: Sequence[int]) -> Tensor:
    """Shift predictions from the frame that makes them to the frame that they predict.

    Args:
        predictions: (B, T, D) for each step, at frame t the prediction of frame t + step.
        steps: Distance in frames of each prediction, from 1 to T - 1.

    Returns:
        (B, T, K, D), at frame t and step k the prediction of frame t; 0 where there is none.
    """
    moved = [
        F.pad(prediction[:, :-step], (0, 0, step, 0))
        for prediction, step in zip(predictions, steps, strict=True)
    ]
    return torch.stack(moved, dim=2)


def contrast(predictions: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Scores of predictions: inner products with the predicted frame and with its negatives.

    Args:
        predictions: (B, T, K, D), indexed by predicted frame.
        targets: (B, T, D), the frames.
        negatives: Indices (B, T, N) of negatives, from `draw_negatives`.

    Returns:
        (B, T, K, 1 + N) in float32, the score of the predicted frame first.
    """
    own = torch.arange(negatives.shape[0] * negatives.shape[1]).view(*negatives.shape[:2], 1)
    indices = torch.cat([own, negatives], dim=2).to(targets.device)
    candidates = F.embedding(indices, targets.flatten(0, 1))
    # Candidates first: neither they nor their gradients, the largest tensors here, change layout.
    scores = torch.bmm(candidates.flatten(0, 1), predictions.flatten(0, 1).transpose(1, 2))
    return scores.view(*targets.shape[:2], *scores.shape[1:]).transpose(2, 3).float()


def info_nce(scores: Tensor, is_predicted: Tensor) -> Tensor:
    """InfoNCE: cross-entropy of the positive among the candidates (CPC, arXiv:1807.03748, eq. 4).

    Args:
        scores: (..., 1 + N), the positive first.
        is_predicted: Boolean mask (...) of the predictions that enter the loss.

    Returns:
        Mean over the masked predictions.
    """
    return masked_mean(scores.logsumexp(dim=-1) - scores[..., 0], is_predicted)


def binary_nce(scores: Tensor, is_predicted: Tensor, negative_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy of the positive and the negatives (wav2vec, arXiv:1904.05862, eq. 1).

    Args:
        scores: (..., 1 + N), the positive first.
        is_predicted: Boolean mask (...) of the predictions that enter the loss.
        negative_weight: Weight of each negative.

    Returns:
        Sum over the candidates, mean over the masked predictions.
    """
    others = F.softplus(scores[..., 1:]).sum(dim=-1)
    return masked_mean(F.softplus(-scores[..., 0]) + negative_weight * others, is_predicted)


def accuracy(scores: Tensor, is_predicted: Tensor) -> Tensor:
    """Accuracy: share of the masked predictions that score the positive above all negatives."""
    is_right = scores[..., 0] > scores[..., 1:].amax(dim=-1)
    return masked_mean(is_right.float(), is_predicted).detach()


class FutureContrastConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options that the objectives of wav2vec and vq-wav2vec share; the defaults are wav2vec's.

    Attributes:
        num_steps: K, the number of frames predicted from each context (`prediction_steps`; 12).
        first_step: Distance in frames of the first of them (`offset`); None for the first frame
            whose receptive field does not overlap that of the context's frame (`auto`: 3 for the
            published sizes).
        num_negatives: Negatives from the same utterance per predicted frame (`num_negatives`; 10).
        num_batch_negatives: Negatives from the whole batch (`cross_sample_negatives`; 0).
        loss: Binary cross-entropy of each candidate, or cross-entropy among the candidates
            (`infonce`).
        is_balanced: Whether, in the binary form, all negatives together have the weight of the
            positive, rather than each of them (`balanced_classes`).
        context_dropout: Dropout of the contexts (`dropout_agg`).
        prediction_dropout: Dropout of the predictions (`dropout`).
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
    """Base of contrastive objectives of convolutional encoders (arXiv:1904.05862).

    One affine layer per step predicts future frames from each context; the loss is the mean over
    all predictions of valid frames.
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
        """Distance in frames of the nearest predicted frame."""
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
        """Loss of predicting `frames` from earlier contexts.

        Args:
            frames: (B, D, T), input of the aggregator and targets of the predictions.
            num_frames: Valid frames of each utterance.
            generator: Source of the negatives.
        """
        config = self.config
        *_, (_, context) = self.encoder.contexts(frames, num_frames)
        # In a batch of short utterances the last steps may have no frame to predict.
        steps = range(self.first_step, min(self.first_step + config.num_steps, max(num_frames)))
        predictions = at_predicted_frames(self.predictions(context.values)[: len(steps)], steps)
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
        """Predictions (B, T, D) of each step from the contexts (B, T, C)."""
        config = self.config
        x = dropout(context, config.context_dropout, self.training)
        x = dropout(self.predict(x), config.prediction_dropout, self.training)
        return x.chunk(config.num_steps, dim=2)

    def _negatives(self, num_frames: Sequence[int], generator: torch.Generator) -> Tensor:
        counts = {False: self.config.num_negatives, True: self.config.num_batch_negatives}
        drawn = [
            draw_negatives(num_frames, count, across_batch=across_batch, generator=generator)
            for across_batch, count in counts.items()
        ]
        return torch.cat(drawn, dim=2)


def initialise_predictions(layer: nn.Linear) -> None:
    """Initialise the prediction layer as fairseq's transposed convolution over the steps.

    Weights are uniform within 1 / sqrt(out_features), which keeps initial scores small; the bound
    of a plain linear layer is larger by the square root of the number of steps.
    """
    bound = layer.out_features**-0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -bound, bound)


def _is_predicted(num_frames: Sequence[int], steps: range) -> Tensor:
    """Boolean mask (B, T, K), True where frame t is valid and has a context k frames earlier."""
    frames = torch.arange(max(num_frames)).unsqueeze(1)
    return (frames >= torch.tensor(steps)) & (frames < torch.tensor(num_frames).view(-1, 1, 1))


class Wav2VecObjectiveConfig(FutureContrastConfig, frozen=True, kw_only=True):
    """Options of wav2vec's objective."""


class Wav2VecObjective(FutureContrastObjective):
    """wav2vec's objective: one affine layer per step predicts future frames z from each context."""

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
