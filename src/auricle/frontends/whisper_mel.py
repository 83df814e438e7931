"""Log mel features of Whisper: Slaney's filters, and a floor below the peak of the utterance."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.frontends.framing import constant, magnitudes
from auricle.geometry import SAMPLE_RATE, FrameGeometry, Window

FFT_SAMPLES = 400
HOP_SAMPLES = 160
FLOOR = 1e-10
"""Least power of a band before the logarithm."""

DYNAMIC_RANGE = 8.0
"""Decades below the largest band of an utterance at which all bands are cut."""

LINEAR_HZ = 1000.0
HZ_PER_MEL = 200.0 / 3.0
LOG_STEP = math.log(6.4) / 27.0
"""Slaney's scale: linear below 1 kHz, from there 27 mel for each factor of 6.4."""

_HALF = FFT_SAMPLES // 2
GEOMETRY = FrameGeometry(
    (Window(size=FFT_SAMPLES, stride=HOP_SAMPLES, pad_left=_HALF, pad_right=_HALF - 1),)
)
"""Frames centred on multiples of the hop, without the one at the end, which the authors drop."""


def log_mel(waveforms: Tensor, num_mels: int) -> Tensor:
    """Log mel features (arXiv:2212.04356, section 2.2), each row by itself.

    In the authors' code the rows of a batch share one maximum; here each has its own, as a lone
    waveform has there. Silence after a waveform gives the floor of that row.

    Args:
        waveforms: (B, S) in [-1, 1], float32; S is a multiple of the hop, and mirrored at its ends.
        num_mels: Bands from 0 to 8 kHz.

    Returns:
        (B, S / 160, num_mels), float32.
    """
    with torch.autocast(waveforms.device.type, enabled=False):
        mirrored = F.pad(waveforms, (_HALF, _HALF), mode="reflect")
        windows = mirrored.unfold(1, FFT_SAMPLES, HOP_SAMPLES)[:, :-1]
        windows = windows * constant(_window).to(waveforms.device)
        power = magnitudes(windows, size=FFT_SAMPLES).pow(2)
        bands = power @ constant(_filters, num_mels).to(waveforms.device)
        bands = bands.clamp(min=FLOOR).log10()
        floor = bands.amax(dim=(1, 2), keepdim=True) - DYNAMIC_RANGE
        return (torch.maximum(bands, floor) + 4.0) / 4.0


@functools.lru_cache(maxsize=1)
def _window() -> Tensor:
    """Periodic Hann window (400,), float32 on the CPU."""
    with torch.inference_mode(False):  # such a tensor cannot be saved for a backward pass
        return torch.hann_window(FFT_SAMPLES, device="cpu")


@functools.lru_cache(maxsize=8)
def _filters(num_mels: int) -> Tensor:
    """Triangles of area 1 in Hz, evenly spaced on Slaney's scale: (201, num_mels), float32."""
    with torch.inference_mode(False):
        triangles, heights = slaney_triangles(num_mels, FFT_SAMPLES, 0.0, SAMPLE_RATE / 2)
        return (triangles * heights).float()


def slaney_triangles(
    num_mels: int, fft_samples: int, low_hz: float, high_hz: float
) -> tuple[Tensor, Tensor]:
    """Triangles of height 1 (fft_samples // 2 + 1, num_mels) evenly spaced on Slaney's scale.

    With them the heights (num_mels,) at which their area in Hz is 1; both float64 on the CPU.
    """
    low, high = _slaney_mel(low_hz), _slaney_mel(high_hz)
    mel = torch.linspace(low, high, num_mels + 2, dtype=torch.float64, device="cpu")
    above = LINEAR_HZ * torch.exp((mel - LINEAR_HZ / HZ_PER_MEL) * LOG_STEP)
    edges = torch.where(mel * HZ_PER_MEL < LINEAR_HZ, mel * HZ_PER_MEL, above)
    num_bins = fft_samples // 2 + 1
    bins = torch.linspace(0.0, SAMPLE_RATE / 2, num_bins, dtype=torch.float64, device="cpu")
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins.unsqueeze(1) - left) / (middle - left)
    falling = (right - bins.unsqueeze(1)) / (right - middle)
    return torch.minimum(rising, falling).clamp(min=0.0), 2.0 / (right - left)


def _slaney_mel(hz: float) -> float:
    if hz < LINEAR_HZ:
        return hz / HZ_PER_MEL
    return LINEAR_HZ / HZ_PER_MEL + math.log(hz / LINEAR_HZ) / LOG_STEP
