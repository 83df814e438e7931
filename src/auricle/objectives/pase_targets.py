"""Regression targets of PASE (arXiv:1904.03416): prosody, and standardisation of targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import SAMPLE_RATE

MIN_PITCH_HZ = 60.0
MAX_PITCH_HZ = 400.0
"""Pitch range of a speaking voice."""

FRAME_SAMPLES = 400
"""Analysis window, 25 ms, as for PASE's other targets."""

VOICED_CORRELATION = 0.5
"""Least correlation of a voiced frame, for the interpolation of pitch."""

SHORT_LAG_BONUS = 0.05
"""Relative penalty of the longest lag, against octave errors."""

ENERGY_FLOOR = 1e-6
"""Added to the mean square, 60 dB below full scale."""

NUM_PROSODY = 4


@torch.no_grad()
def prosody(waveforms: Tensor, *, hop_samples: int) -> Tensor:
    """Log pitch, degree of voicing, zero-crossing rate and log energy of each frame.

    These are the quantities of PASE's prosody worker (arXiv:1904.03416, section 2.2) by simpler
    trackers than its authors use. Pitch is the lag of the largest normalised cross-correlation of
    25 ms (Talkin, A Robust Algorithm for Pitch Tracking, 1995), without tracking over frames;
    voicing is that correlation. Log pitch is interpolated linearly where the correlation is below
    0.5, extended to frames before the first and after the last voiced one, and the middle of its
    range where no frame is voiced. Energy is the logarithm of the mean square.

    Args:
        waveforms: (B, S), without padding.
        hop_samples: Samples between frames; frame t is centred at sample t * hop_samples.

    Returns:
        (B, S // hop_samples, 4), float32.
    """
    num_frames = waveforms.shape[1] // hop_samples
    min_lag, max_lag = int(SAMPLE_RATE / MAX_PITCH_HZ), int(SAMPLE_RATE / MIN_PITCH_HZ)
    size = FRAME_SAMPLES + max_lag
    # The two correlated windows together are centred on the frame.
    padded = F.pad(waveforms.float(), (size // 2, size))
    segments = padded.unfold(1, size, hop_samples)[:, :num_frames]
    segments = segments - segments.mean(dim=2, keepdim=True)
    correlations = _correlations(segments, max_lag)[..., min_lag:]
    lags = torch.arange(min_lag, max_lag + 1, device=waveforms.device)
    best = (correlations * (1 - SHORT_LAG_BONUS * lags / max_lag)).argmax(dim=2)
    voicing = correlations.gather(2, best.unsqueeze(2)).squeeze(2).clamp(0, 1)
    log_pitch = (SAMPLE_RATE / lags[best]).log()
    centre = segments[..., max_lag // 2 : max_lag // 2 + FRAME_SAMPLES]
    crossings = (centre[..., 1:] * centre[..., :-1] < 0).float().mean(dim=2)
    energy = (centre.square().mean(dim=2) + ENERGY_FLOOR).log()
    log_pitch = interpolate(log_pitch, voicing >= VOICED_CORRELATION)
    return torch.stack([log_pitch, voicing, crossings, energy], dim=2)


def _correlations(segments: Tensor, max_lag: int) -> Tensor:
    """Normalised cross-correlation (B, T, max_lag + 1) of the start of each segment with the rest.

    At lag k, samples 0..N-1 of the segment with samples k..N+k-1, divided by the root of the
    product of their energies.
    """
    size = segments.shape[2]
    transform_size = 1 << (size + FRAME_SAMPLES - 1).bit_length()
    head = torch.fft.rfft(segments[..., :FRAME_SAMPLES], n=transform_size)
    whole = torch.fft.rfft(segments, n=transform_size)
    products: Tensor = torch.fft.irfft(head.conj() * whole, n=transform_size)[..., : max_lag + 1]
    sums = F.pad(segments.square().cumsum(dim=2), (1, 0))
    energies = (sums[..., FRAME_SAMPLES:] - sums[..., :-FRAME_SAMPLES]).clamp(min=0)
    floor = FRAME_SAMPLES * ENERGY_FLOOR
    scale = ((energies[..., :1] + floor) * (energies[..., : max_lag + 1] + floor)).rsqrt()
    return products * scale


def interpolate(x: Tensor, is_known: Tensor) -> Tensor:
    """Linear interpolation of values (B, T) where `is_known` is False.

    The first and last known values are extended to the ends of the row; a row without any is the
    logarithm of the middle of the pitch range.
    """
    num_frames = x.shape[1]
    frames = torch.arange(num_frames, device=x.device).expand_as(x)
    before = frames.masked_fill(~is_known, -1).cummax(dim=1).values
    after = frames.masked_fill(~is_known, num_frames).flip(1).cummin(dim=1).values.flip(1)
    left = torch.where(before < 0, after, before).clamp(max=num_frames - 1)
    right = torch.where(after == num_frames, before, after).clamp(min=0)
    share = (frames - left) / (right - left).clamp(min=1)
    low, high = x.gather(1, left), x.gather(1, right)
    middle = torch.full_like(x, MIN_PITCH_HZ * MAX_PITCH_HZ).log() / 2
    return torch.where(is_known.any(dim=1, keepdim=True), low + share * (high - low), middle)


MIN_DEVIATION = 1e-4
"""Lower clamp of the standard deviation."""


class RunningNorm(nn.Module):
    """Standardise frames by running mean and standard deviation of all training frames.

    Statistics are merged batch by batch (Chan et al., Updating Formulae and a Pairwise Algorithm
    for Computing Sample Variances, 1979) and saved with the weights.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Standardise frames (..., dim) in float32; in training mode, update statistics first."""
        x = x.float()
        if self.training:
            self._update(x.reshape(-1, x.shape[-1]))
        return (x - self.mean) / self.variance.sqrt().clamp(min=MIN_DEVIATION)

    def _update(self, x: Tensor) -> None:
        """Update the statistics with frames (N, dim)."""
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        share = len(x) / (self.count + len(x))
        shift = mean - self.mean
        between = shift.square() * (share * (1 - share))
        self.variance.lerp_(variance, share).add_(between)
        self.mean.add_(shift * share)
        self.count += len(x)
