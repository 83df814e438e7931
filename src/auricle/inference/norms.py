"""Norms over an utterance in a stream: by running moments, or by fixed ones.

A stream does not know the moments of the utterance that is still to come. Either each frame is
normalised by the moments of all frames up to itself, or every frame by the same moments, measured
before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from auricle.nn.norms import UtteranceGroupNorm

NormFunction = Callable[[Tensor], Tensor]
"""Takes new frames (1, D, T) to normalised ones."""


@dataclasses.dataclass(frozen=True)
class Moments:
    """Means and variances, float64, each (G, T): of G groups, for each frame or (T of 1) for all.

    A variance is 0 exactly where all values are the same.
    """

    mean: Tensor
    variance: Tensor


class StreamNorm(Protocol):
    """A norm over the utterance: the moments it needs, and the frames it gives by them.

    Attributes:
        num_groups: G, groups of neighbouring channels that share moments.
        is_unbiased: Whether the variance is that of the sample less one.
        refuses_running: Reason why running moments do not serve the norm; None where they do.
    """

    @property
    def num_groups(self) -> int: ...

    @property
    def is_unbiased(self) -> bool: ...

    @property
    def refuses_running(self) -> str | None: ...

    def normalised(self, x: Tensor, moments: Moments) -> Tensor:
        """Frames (1, D, T) of `x` (1, D, T), in its type."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamGroupNorm:
    """Group norm over channels and time, in a stream; `auricle.nn.norms` has that of utterances."""

    num_groups: int
    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float = 1e-5
    refuses_running: str | None = None

    @classmethod
    def of(cls, norm: UtteranceGroupNorm, *, refuses_running: str | None = None) -> StreamGroupNorm:
        """The stream's form of a norm of whole utterances."""
        return cls(
            num_groups=norm.num_groups,
            weight=norm.weight,
            bias=norm.bias,
            refuses_running=refuses_running,
        )

    @property
    def is_unbiased(self) -> bool:
        return False

    def normalised(self, x: Tensor, moments: Moments) -> Tensor:
        """Frames (1, D, T) of `x` (1, D, T), in its type."""
        scale = (moments.variance + self.eps).rsqrt().unsqueeze(1)
        normed = (_grouped(x, self.num_groups) - moments.mean.unsqueeze(1)) * scale
        normed = normed.view(x.shape)
        if self.weight is not None:
            normed = normed * self.weight.view(-1, 1)
        if self.bias is not None:
            normed = normed + self.bias.view(-1, 1)
        return normed.to(x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamCmvn:
    """Running mean and variance normalisation of each dimension (CMVN).

    A dimension that has been constant is 0.
    """

    dim: int
    epsilon: float
    is_unbiased = True
    refuses_running = None

    @property
    def num_groups(self) -> int:
        return self.dim

    def normalised(self, x: Tensor, moments: Moments) -> Tensor:
        """Frames (1, D, T) of `x` (1, D, T), in its type."""
        normed = (x.double() - moments.mean) / (moments.variance.sqrt() + self.epsilon)
        return normed.masked_fill(moments.variance == 0, 0.0).to(x.dtype)


class RunningMoments:
    """Moments over all frames up to and including each frame.

    Sums are float64, of deviations from the mean of the first frame, so that neither an offset nor
    the length of the stream costs the variance digits.
    """

    def __init__(self, norm: StreamNorm) -> None:
        self._num_groups = norm.num_groups
        self._is_unbiased = norm.is_unbiased
        self._num_frames = 0
        self._origin: Tensor | None = None
        self._sums: Tensor | None = None

    def push(self, x: Tensor) -> Moments:
        """Moments (G, T) for each of the new frames `x` (1, D, T), T of 1 or more."""
        groups = _grouped(x, self._num_groups)
        if self._origin is None or self._sums is None:
            self._origin = groups[:, :, :1].mean(1, keepdim=True)  # (G, 1, 1)
            self._sums = groups.new_zeros(2, self._num_groups, 1)
        deviations = groups - self._origin
        sums = torch.stack([deviations.sum(1), deviations.square().sum(1)])  # (2, G, T)
        # The running sum is the first term, so that rounding does not depend on the pushes.
        sums = torch.cat([self._sums, sums], dim=2).cumsum(2)[:, :, 1:]
        self._sums = sums[:, :, -1:].clone()
        counts = torch.arange(1, x.shape[2] + 1, dtype=torch.float64, device=x.device)
        counts = (counts + self._num_frames) * groups.shape[1]
        self._num_frames += x.shape[2]
        first, second = sums
        divisors = (counts - 1).clamp(min=1) if self._is_unbiased else counts
        variance = ((second - first * first / counts) / divisors).clamp(min=0)
        return Moments(mean=self._origin[:, :, 0] + first / counts, variance=variance)


def running(norm: StreamNorm) -> NormFunction:
    """The norm by the moments of all frames up to each frame."""
    moments = RunningMoments(norm)
    return lambda x: norm.normalised(x, moments.push(x)) if x.shape[2] else x


def fixed(norm: StreamNorm, moments: Moments) -> NormFunction:
    """The norm by moments (G, 1) that are the same for all frames."""

    def normalised(x: Tensor) -> Tensor:
        there = Moments(moments.mean.to(x.device), moments.variance.to(x.device))
        return norm.normalised(x, there)

    return normalised


class Measuring:
    """Identity on frames that records the moments of all frames it was given."""

    def __init__(self, norm: StreamNorm) -> None:
        self._running = RunningMoments(norm)
        self.moments: Moments | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[2]:
            last = self._running.push(x)
            self.moments = Moments(last.mean[:, -1:].clone(), last.variance[:, -1:].clone())
        return x


def _grouped(x: Tensor, num_groups: int) -> Tensor:
    """`x` (1, D, T) as (G, D / G, T), float64."""
    return x.double().reshape(num_groups, x.shape[1] // num_groups, x.shape[2])
