"""Telling a frame to come from other frames: what CPC, wav2vec and vq-wav2vec share.

Everything is laid out by the frame that is predicted: at frame t and step k stands the prediction
that was made k frames before, so that all steps of a frame share its negatives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.objectives.base import masked_mean


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
