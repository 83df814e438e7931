"""Frames to come among negatives, as wav2vec and vq-wav2vec tell them (arXiv:1904.05862)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.models.conv_encoder import ConvEncoder
from auricle.objectives.base import Loss, Objective, ObjectiveConfig
from auricle.objectives.contrastive import (
    accuracy,
    at_predicted_frames,
    binary_nce,
    contrast,
    draw_negatives,
    info_nce,
)


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
