"""Padded batches: which samples are true, and how a waveform becomes windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from auricle.errors import AudioError

# Windows that are transformed at once: 2048 spectra of 512 float64 samples take 8 MB, so that the
# memory of a long recording is that of its features.
BLOCK_FRAMES = 2048

DEVICES_WITHOUT_FLOAT64 = frozenset({"mps"})


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """True on padding: (batch, `size`) from true `lengths` (batch,) on the same device."""
    return torch.arange(size, device=lengths.device) >= lengths.unsqueeze(1)


def true_samples(
    waveforms: Tensor, num_samples: Sequence[int], min_samples: int
) -> tuple[Tensor, Tensor]:
    """The batch in float64, as long as its longest utterance, exactly zero on padding.

    `waveforms` is (batch, samples); what it holds past an utterance's length, even NaN, is dropped.
    Returns the samples and their lengths (batch,), both on the waveforms' device, or on the CPU
    where that device has no float64. Raises AudioError for an utterance shorter than `min_samples`
    and ValueError for lengths that do not describe the batch.
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
    no_float64 = waveforms.device.type in DEVICES_WITHOUT_FLOAT64
    device = torch.device("cpu") if no_float64 else waveforms.device
    lengths = torch.tensor(num_samples, dtype=torch.int64, device=device)
    samples = waveforms[:, :longest].to(device).to(torch.float64)
    return samples.masked_fill(padding_mask(lengths, longest), 0.0), lengths


def transform_windows(
    samples: Tensor, *, size: int, stride: int, transform: Callable[[Tensor], Tensor]
) -> Tensor:
    """Apply `transform` to every window of `size` samples, moved by `stride`, a block at a time.

    `samples` is (batch, samples), a whole window at least; `transform` takes (batch, frames, size)
    to (batch, frames, features). Returns (batch, frames, features) in float32.
    """
    windows = samples.unfold(1, size, stride)  # (B, T, size), a view
    num_frames = windows.shape[1]
    block = max(1, BLOCK_FRAMES // max(1, windows.shape[0]))
    parts = [
        transform(windows[:, start : start + block]).to(torch.float32)
        for start in range(0, num_frames, block)
    ]
    return torch.cat(parts, dim=1)


def power_spectrum(windows: Tensor, *, size: int) -> Tensor:
    """Squared magnitude of the Fourier transform of (..., samples), zero-padded to `size`.

    Returns (..., size // 2 + 1). Real and imaginary parts are squared one by one, because the
    gradient of a complex magnitude is undefined at zero.
    """
    spectrum = torch.view_as_real(torch.fft.rfft(windows, n=size))
    return spectrum.square().sum(-1)
