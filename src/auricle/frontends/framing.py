"""Framing: utterances of a padded batch, and windows of an utterance.

Features are computed per utterance, in float32 and in the order of operations of the authors' code.
Where a spectrum is near the floor of the logarithm, or frames are few and alike, the rounding of
that code is larger than the tolerance of the library, so only the same operations on the same
shapes reproduce it; and what is computed per utterance cannot depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from auricle.errors import AudioError
from auricle.frontends.feature_transforms import is_padding

if TYPE_CHECKING:
    from auricle.geometry import FrameGeometry, IntOrTensor

BLOCK_FRAMES = 16_384
"""Windows transformed at once, which bounds the memory for long utterances."""


class Frontend:
    """Base of the configurations of front ends: waveforms in, a known count of frames out."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def geometry(self) -> FrameGeometry: ...

        @property
        def min_samples(self) -> int: ...

        @property
        def dim(self) -> int: ...

        def _of_one(self, waveform: Tensor) -> Tensor:
            """Features (T, D) of one utterance (S,)."""

        def _of_padded(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            """Features (B, T, D) of a padded batch (B, S), and their valid frames (B,)."""

    def num_frames(self, num_samples: IntOrTensor) -> IntOrTensor:
        """Number of frames for `num_samples` samples, an int or an integer tensor."""
        return self.geometry.num_frames(num_samples)

    def features(self, waveforms: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """Compute the features of a padded batch; an utterance does not depend on the others.

        Args:
            waveforms: (B, S) in [-1, 1]. Padding is ignored.
            lengths: Samples of each utterance, as ints or an int64 tensor (B,).

        Returns:
            (B, T, dim) in float32, zero past the `num_frames` of an utterance.

        Raises:
            AudioError: An utterance is shorter than `min_samples`.
        """
        return batch_features(
            waveforms,
            lengths,
            self._of_one,
            self._of_padded,
            min_samples=self.min_samples,
            dim=self.dim,
        )


def batch_features(
    waveforms: Tensor,
    lengths: Sequence[int] | Tensor,
    transform: Callable[[Tensor], Tensor],
    padded_transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    *,
    min_samples: int,
    dim: int,
) -> Tensor:
    """Compute the features of a padded batch: one utterance at a time, or traced.

    Under a compiler or exporter no value of a length may decide the shapes, so `padded_transform`
    computes the whole batch.

    Args:
        waveforms: (B, S). Padding is ignored and may hold NaN.
        lengths: Samples of each utterance, as ints or an int64 tensor (B,).
        transform: Maps the samples (S,) of one utterance to its features (T, D).
        padded_transform: Maps samples (B, S), zeros on padding, and lengths (B,) to features
            (B, T, D), which may hold anything on padding, and their valid frames (B,).
        min_samples: Length below which an utterance is refused.
        dim: D, for a batch without utterances.

    Returns:
        (B, T, D) in float32 on the device of `waveforms`, zero on padding.

    Raises:
        AudioError: An utterance is shorter than `min_samples`.
        ValueError: The lengths do not describe the batch.
    """
    if isinstance(lengths, Tensor) and torch.compiler.is_compiling():
        samples = waveforms.float().masked_fill(is_padding(waveforms, lengths), 0.0)
        with torch.autocast(waveforms.device.type, enabled=False):
            features, num_frames = padded_transform(samples, lengths)
        return features.masked_fill(is_padding(features, num_frames), 0.0)
    counts = lengths.tolist() if isinstance(lengths, Tensor) else lengths
    if len(counts) == 0:
        return waveforms.new_zeros((0, 0, dim), dtype=torch.float32)
    # Features stay in float32 under autocast: a logarithm near its floor needs all digits.
    with _without_autocast(waveforms.device):
        rows = [transform(row) for row in _utterances(waveforms, counts, min_samples)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """No autocast, on devices that have any; the meta device, for shapes alone, has none."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _utterances(waveforms: Tensor, lengths: Sequence[int], min_samples: int) -> list[Tensor]:
    """Valid samples (S,) of each utterance in float32."""
    if waveforms.ndim != 2 or len(lengths) != waveforms.shape[0]:
        raise ValueError(
            f"waveforms must be (batch, samples) with one length each, but are of shape "
            f"{tuple(waveforms.shape)} with {len(lengths)} lengths"
        )
    longest = max(lengths, default=0)
    if longest > waveforms.shape[1]:
        raise ValueError(
            f"lengths must be at most {waveforms.shape[1]}, the width of the batch, "
            f"but the longest is {longest}"
        )
    for index, count in enumerate(lengths):
        if count < min_samples:
            raise AudioError(
                f"waveform {index} has {count} samples, but this front end needs at least "
                f"{min_samples}: pad it with zeros or leave it out"
            )
    # A copy has the memory layout of a lone waveform, so that the same kernels compute it.
    return [row[:count].float().clone() for row, count in zip(waveforms, lengths, strict=True)]


def transform_windows(
    samples: Tensor, *, size: int, stride: int, transform: Callable[[Tensor], Tensor]
) -> Tensor:
    """Apply `transform` to every window of `size` samples, `stride` samples apart, in blocks.

    Args:
        samples: (S,), at least one window.
        size: Samples of a window.
        stride: Samples between windows.
        transform: Maps windows (T, size) to features (T, D).

    Returns:
        (T, D).
    """
    windows = samples.unfold(0, size, stride)  # (T, size), a view
    if torch.compiler.is_compiling():  # the number of blocks would be a constant of the graph
        return transform(windows)
    return torch.cat([transform(block) for block in torch.split(windows, BLOCK_FRAMES)])


def constant(make: Callable[..., Tensor], *arguments: object) -> Tensor:
    """Constant tensor of a cached function; traced, it is a part of the graph and is not kept."""
    if torch.compiler.is_compiling():
        make = cast("Any", make).__wrapped__
    return make(*arguments)


def magnitudes(windows: Tensor, *, size: int) -> Tensor:
    """Magnitude spectrum (..., size // 2 + 1) of windows (..., samples), zero-padded to `size`."""
    spectrum: Tensor = torch.fft.rfft(windows, n=size)
    return spectrum.abs()
