"""Framing of waveforms, and transforms of frames: deltas, mean and variance normalisation (CMVN).

Features are computed per utterance, in float32 and in the order of operations of the authors' code.
Where a spectrum is near the floor of the logarithm, or frames are few and alike, the rounding of
that code is larger than the tolerance of the library, so only the same operations on the same
shapes reproduce it; and what is computed per utterance cannot depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from auricle.errors import AudioError

if TYPE_CHECKING:
    from auricle.info import FrameGeometry, IntOrTensor


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


def magnitudes(windows: Tensor, *, size: int, single: bool = False) -> Tensor:
    """Magnitude spectrum (..., size // 2 + 1) of windows (..., samples), zero-padded to `size`.

    With `single` the spectrum of float64 windows is rounded to float32, and its magnitudes are
    float64 again, as `transformers.audio_utils.spectrogram` has them.
    """
    spectrum: Tensor = torch.fft.rfft(windows, n=size)
    if single and spectrum.dtype == torch.complex128:
        spectrum = spectrum.to(torch.complex64).to(torch.complex128)
    return spectrum.abs()


ROUNDING = 2e-6
"""Relative difference of float32 values that stem from the same samples, in a padded batch."""


def append_deltas(features: Tensor, *, order: int, window: int) -> Tensor:
    """Append deltas: regression slopes of each dimension over time, `order` times.

    `features` is (T, D) float32 of one utterance; the result is (T, D * (1 + order)), each order
    the deltas of the one before. With N = (window - 1) // 2,

        delta[t] = sum_n n (x[t + n] - x[t - n]) / (2 sum_n n^2),  n = 1 ... N

    where the first and last frame are repeated beyond the ends (Young et al., The HTK Book,
    section 5.9).
    """
    parts = [features]
    for _ in range(order):
        parts.append(_slopes(parts[-1], reach=(window - 1) // 2))
    return torch.cat(parts, dim=1)


def _slopes(features: Tensor, *, reach: int) -> Tensor:
    """Regression slopes of (T, D) over `reach` frames on either side, with replicated edges."""
    num_frames = len(features)
    first, last = features[:1].expand(reach, -1), features[-1:].expand(reach, -1)
    padded = torch.cat([first, features, last])
    slopes = torch.zeros_like(features)
    for n in range(1, reach + 1):
        # Differences first, so that a constant dimension has deltas of exactly zero.
        slopes = slopes + n * (padded[reach + n :][:num_frames] - padded[reach - n :][:num_frames])
    return slopes / (2 * sum(n * n for n in range(1, reach + 1)))


def cmvn(features: Tensor, *, time_dim: int, epsilon: float, in_variance: bool = False) -> Tensor:
    """Mean and variance normalisation of one utterance: `(x - mean) / (std + epsilon)`.

    With `in_variance` it is `(x - mean) / sqrt(std^2 + epsilon)`. `features` is (T, D) or (D, T),
    as `time_dim` says, with at least two frames; std is unbiased.
    A constant dimension becomes 0, where the formula would divide rounding noise by rounding noise.
    """
    values = features.detach()
    is_constant = values.amax(time_dim, keepdim=True) == values.amin(time_dim, keepdim=True)
    # The square root has no gradient at 0, and the gradient of the unused branch must be finite.
    shape = [1, 1]
    shape[time_dim] = -1
    ramp = torch.arange(features.shape[time_dim], device=features.device).view(shape)
    std = torch.where(is_constant, ramp, features).std(time_dim, keepdim=True)
    divisor = _divisor(std, epsilon, in_variance)
    centred = features - features.mean(time_dim, keepdim=True)
    if torch.is_grad_enabled():
        return (centred / divisor).masked_fill(is_constant, 0.0)
    # In place, since no backward pass needs the deviations.
    return centred.div_(divisor).masked_fill_(is_constant, 0.0)


def is_plain(features: Tensor) -> bool:
    """True for values on the CPU that neither a backward pass nor a tracer follows."""
    return (
        type(features) is Tensor
        and features.device.type == "cpu"
        and not features.requires_grad
        and not torch.compiler.is_compiling()
    )


def numpy_cmvn(
    features: Tensor, *, time_dim: int, epsilon: float, in_variance: bool = False
) -> Tensor:
    """`cmvn` of plain features, equal to NumPy's to the bit, constant dimensions included.

    Time is last in memory, as in transformers, which decides the order of summation: where frames
    are few and alike, its rounding is a large part of what is left.
    """
    values = features.movedim(time_dim, -1).contiguous().numpy()
    mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True, ddof=1)
    offset = values.dtype.type(epsilon)
    divisor = np.sqrt(variance + offset) if in_variance else np.sqrt(variance) + offset
    return torch.from_numpy((values - mean) / divisor).movedim(-1, time_dim)


def _divisor(std: Tensor, epsilon: float, in_variance: bool) -> Tensor:
    return (std.square() + epsilon).sqrt() if in_variance else std + epsilon


def padded_mean(features: Tensor, lengths: Tensor) -> Tensor:
    """Means (B, 1, D) over the valid frames of a padded batch (B, T, D), `lengths` (B,)."""
    valid = features.masked_fill(is_padding(features, lengths), 0.0)
    return valid.sum(1, keepdim=True) / lengths.view(-1, 1, 1)


def padded_deltas(features: Tensor, lengths: Tensor, *, order: int, window: int) -> Tensor:
    """`append_deltas` of each utterance of a padded batch (B, T, D), `lengths` (B,)."""
    reach = (window - 1) // 2
    frames = torch.arange(features.shape[1], device=features.device)

    def shifted(x: Tensor, n: int) -> Tensor:
        """Frame t + n at place t, within the utterance's own ends."""
        index = (frames + n).clamp(min=0).minimum(lengths.unsqueeze(1) - 1)
        return x.gather(1, index.unsqueeze(2).expand_as(x))

    parts = [features]
    for _ in range(order):
        x = parts[-1]
        slopes = [n * (shifted(x, n) - shifted(x, -n)) for n in range(1, reach + 1)]
        parts.append(torch.stack(slopes).sum(0) / (2 * sum(n * n for n in range(1, reach + 1))))
    return torch.cat(parts, dim=2)


def padded_cmvn(
    features: Tensor, lengths: Tensor, *, epsilon: float, in_variance: bool = False
) -> Tensor:
    """`cmvn` of each utterance of a padded batch (B, T, D), `lengths` (B,) of at least 2."""
    padding = is_padding(features, lengths)
    lowest = features.masked_fill(padding, torch.inf).amin(1, keepdim=True)
    highest = features.masked_fill(padding, -torch.inf).amax(1, keepdim=True)
    # Products of matrices round equal frames differently by their place in the batch.
    is_constant = highest - lowest <= ROUNDING * torch.maximum(highest.abs(), lowest.abs())
    centred = (features - padded_mean(features, lengths)).masked_fill(padding, 0.0)
    variance = centred.square().sum(1, keepdim=True) / (lengths - 1).view(-1, 1, 1)
    std = variance.masked_fill(is_constant, 1.0).sqrt()
    return (centred / _divisor(std, epsilon, in_variance)).masked_fill(is_constant, 0.0)


def is_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """Mask (B, T, 1), or (B, S) for waveforms, that is True from the end of each utterance on."""
    mask = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
    return mask.view(*mask.shape, *[1] * (x.dim() - 2))
