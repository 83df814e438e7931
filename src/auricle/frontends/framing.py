"""Utterances out of a padded batch, windows out of an utterance, and back.

Features are taken of each utterance by itself, in float32 and in the order of operations of the
authors' code. Where a spectrum is near the floor of the logarithm, or frames are few and alike,
that code's own rounding is larger than what the library promises, so nothing else equals it; and
what is computed by itself cannot depend on a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from auricle.errors import AudioError

BLOCK_FRAMES = 16_384
"""Windows that are transformed at once, so that the memory of an hour is that of its features."""


def utterances(waveforms: Tensor, num_samples: Sequence[int], min_samples: int) -> list[Tensor]:
    """The true samples (S,) of each utterance, float32.

    `waveforms` is (batch, samples); what it holds past an utterance's length, even NaN, is dropped.
    Raises AudioError for an utterance shorter than `min_samples` and ValueError for lengths that
    do not describe the batch.
    """
    if waveforms.ndim != 2 or len(num_samples) != waveforms.shape[0]:
        raise ValueError(
            f"waveforms must be (batch, samples) with one length each, but are of shape "
            f"{tuple(waveforms.shape)} with {len(num_samples)} lengths"
        )
    longest = max(num_samples, default=0)
    if longest > waveforms.shape[1]:
        raise ValueError(
            f"num_samples must be at most {waveforms.shape[1]}, the width of the batch, "
            f"but is {longest}"
        )
    for index, count in enumerate(num_samples):
        if count < min_samples:
            raise AudioError(
                f"waveform {index} has {count} samples, but this front end needs at least "
                f"{min_samples}: pad it with zeros or leave it out"
            )
    # A copy lies in memory as a lone waveform does, and is computed with the same instructions.
    return [row[:count].float().clone() for row, count in zip(waveforms, num_samples, strict=True)]


def stacked(features: Sequence[Tensor]) -> Tensor:
    """Features (T, D) of each utterance as a batch (B, T, D), zero past each true end."""
    return torch.nn.utils.rnn.pad_sequence(list(features), batch_first=True)


def transform_windows(
    samples: Tensor, *, size: int, stride: int, transform: Callable[[Tensor], Tensor]
) -> Tensor:
    """Apply `transform` to every window of `size` samples, moved by `stride`, a block at a time.

    `samples` is (S,), a whole window at least; `transform` takes (frames, size) to (frames,
    features). Returns (frames, features).
    """
    windows = samples.unfold(0, size, stride)  # (T, size), a view
    return torch.cat([transform(block) for block in torch.split(windows, BLOCK_FRAMES)])


def magnitudes(windows: Tensor, *, size: int) -> Tensor:
    """Magnitude of the Fourier transform of (frames, samples), zero-padded to `size`.

    Returns (frames, size // 2 + 1).
    """
    spectrum: Tensor = torch.fft.rfft(windows, n=size)
    return spectrum.abs()
