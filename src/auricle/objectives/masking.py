"""Alterations of spectral frames that a Transformer learns to undo (TERA, arXiv:2007.06028).

Each alteration is drawn for one utterance after the other, over its true frames alone, so that
padding changes neither the draws nor what is altered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

ZERO_PROBABILITY = 0.8
"""That the masked spans of an utterance become zeros (Mockingjay, arXiv:1910.12638)."""

REPLACE_PROBABILITY = 0.1
"""That they become other spans of the utterance; in what remains they stay as they are."""


@dataclasses.dataclass(frozen=True)
class TimeMask:
    """Which frames of a batch are to be predicted, and what stands in their place.

    Attributes:
        is_masked: (B, T), True on frames that are to be predicted.
        is_zeroed: (B, T), True on those of them that become zeros.
        source: (B, T), int64: the frame that stands in each frame's place.
    """

    is_masked: Tensor
    is_zeroed: Tensor
    source: Tensor

    def to(self, device: torch.device) -> TimeMask:
        """The same on `device`."""
        return TimeMask(
            self.is_masked.to(device), self.is_zeroed.to(device), self.source.to(device)
        )

    def apply(self, features: Tensor) -> Tensor:
        """The frames `features` (B, T, D) with masked ones altered."""
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

    In each utterance as many spans as make up `proportion` of its frames, and at least one, start
    at different frames; they may overlap. Of one utterance all spans are treated alike: they
    become zeros with probability 0.8, other spans of it with 0.1, or stay as they are.

    Args:
        num_frames: True length of each utterance.
        proportion: Share of the frames that the spans would cover if none overlapped.
        span: Least and largest number of frames in a span, of which each utterance draws one.
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
            # Where spans overlap, the first one drawn decides.
            first = covers.int().argmax(dim=0)
            replaced = others[first] + offsets.gather(0, first.unsqueeze(0))[0]
            source[row, :length] = torch.where(covered, replaced, source[row, :length])
    return TimeMask(is_masked, is_zeroed, source)


def draw_bands(
    num_rows: int, dim: int, *, max_proportion: float, generator: torch.Generator
) -> Tensor:
    """Draw one band of columns per utterance to hide, on the CPU (TERA, arXiv:2007.06028).

    Args:
        num_rows: B.
        dim: D, the columns there are.
        max_proportion: The widest band as a share of D; widths are uniform from 0 up to it.
        generator: Source of the draws.

    Returns:
        (B, D), True on the band.
    """
    widths = torch.randint(int(dim * max_proportion) + 1, (num_rows,), generator=generator)
    # Uniform over the starts that keep the band inside.
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
    """Draw Gaussian noise for some utterances, on the CPU (TERA, arXiv:2007.06028).

    Args:
        num_frames: True length of each utterance.
        dim: D, the columns there are.
        probability: That an utterance gets noise.
        std: Standard deviation of the noise.
        generator: Source of the draws.

    Returns:
        Noise (B, T, D), zero on padding and in utterances without noise, and which utterances
        have noise (B,).
    """
    is_noisy = torch.rand(len(num_frames), generator=generator) < probability
    noise = torch.zeros(len(num_frames), max(num_frames), dim)
    for row, length in enumerate(num_frames):
        if is_noisy[row]:
            noise[row, :length] = std * torch.randn(length, dim, generator=generator)
    return noise, is_noisy
