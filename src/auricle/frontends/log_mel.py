"""Log mel features of two kinds: level-normalised (or linear, or MFCC), and those of Whisper.

The former are of a centred Fourier transform. Whisper's have Slaney's filters, and a floor below
the peak of the utterance.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.frontends.framing import (
    Frontend,
    append_deltas,
    cmvn,
    constant,
    magnitudes,
    padded_cmvn,
    padded_deltas,
    transform_windows,
)
from auricle.info import SAMPLE_RATE, FrameGeometry, Window

EPSILON = 1e-10  # added to the level, in the logarithm and to CMVN's deviation by the original code
MFCC_LOG_OFFSET = 1e-6  # torchaudio.transforms.MFCC with log_mels
MFCC_NUM_MELS = 128  # the filters under the cosine transform, torchaudio's default
DELTA_WINDOW = 5  # frames, torchaudio's default
KINDS = ("mel", "linear", "mfcc")


class LogMelConfig(
    Frontend,
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="log_mel",
):
    """Options of the online features of Mockingjay, TERA and Audio ALBERT (arXiv:2007.06028).

    In brackets their names in the `audio` section of those checkpoints.

    Attributes:
        kind: `mel` bands, the `linear` power spectrum, or `mfcc` (`input.feat_type`).
        num_mels: Triangular filters on the HTK mel scale for kind `mel` (`n_mels`).
        num_freqs: Bins of the spectrum (`n_freq`); the transform has 2 (num_freqs - 1) samples.
        num_mfcc: Cepstral coefficients for kind `mfcc` (`n_mfcc`).
        window_ms: Hann window (`win_ms`).
        hop_ms: Hop (`hop_ms`).
        target_level_db: Level to which a waveform is scaled first, in dB of full scale
            (`target_level`); None for no scaling.
        log: Whether to take the natural logarithm (`input.log`). Must be False for kind `mfcc`,
            whose coefficients are logarithmic and may be negative.
        delta_order: Order of the appended deltas, over 5 frames (`input.delta`).
        cmvn: Whether to apply mean and variance normalisation per utterance, last (`input.cmvn`).
        sample_rate: Of the waveforms, in Hz.
    """

    kind: Literal["mel", "linear", "mfcc"] = "mel"
    num_mels: int = 80
    num_freqs: int = 201
    num_mfcc: int = 13
    window_ms: float = 25.0
    hop_ms: float = 10.0
    target_level_db: float | None = -25.0
    log: bool = True
    delta_order: int = 0
    cmvn: bool = True
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        level = self.target_level_db
        checks = (
            ("sample_rate", self.sample_rate >= 1, "at least 1 Hz"),
            ("kind", self.kind in KINDS, f"one of {', '.join(KINDS)}"),
            ("num_mels", self.num_mels >= 1, "at least 1"),
            ("num_freqs", self.num_freqs >= 2, "at least 2"),
            ("num_mfcc", 1 <= self.num_mfcc <= MFCC_NUM_MELS, f"in [1, {MFCC_NUM_MELS}]"),
            (
                "window_ms",
                1 <= self.window_samples <= self.fft_samples,
                f"at least one sample and at most the {self.fft_samples} of the transform",
            ),
            ("hop_ms", self.hop_samples >= 1, "at least one sample long"),
            ("target_level_db", level is None or math.isfinite(level), "finite, or None"),
            ("log", not (self.log and self.kind == "mfcc"), "False when kind is 'mfcc'"),
            ("delta_order", self.delta_order >= 0, "at least 0"),
        )
        for name, holds, expected in checks:
            if not holds:
                raise ValueError(f"{name} must be {expected}, but is {getattr(self, name)!r}")

    @property
    def fft_samples(self) -> int:
        """Length of the Fourier transform in samples."""
        return 2 * (self.num_freqs - 1)

    @property
    def window_samples(self) -> int:
        """Length of the Hann window in samples, rounded."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop_samples(self) -> int:
        """Samples between frames, rounded."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def dim(self) -> int:
        """Width of a feature frame, deltas included."""
        widths = {"mel": self.num_mels, "linear": self.num_freqs, "mfcc": self.num_mfcc}
        return widths[self.kind] * (1 + self.delta_order)

    @property
    def geometry(self) -> FrameGeometry:
        """Frame geometry: centred on multiples of the hop, by padding of half a transform."""
        half = self.fft_samples // 2
        window = Window(
            size=self.fft_samples, stride=self.hop_samples, pad_left=half, pad_right=half
        )
        return FrameGeometry((window,))

    @property
    def min_samples(self) -> int:
        """Length of the shortest valid waveform.

        Reflection padding needs one sample more than it adds, and CMVN two frames.
        """
        reflection = self.fft_samples // 2 + 1
        return max(reflection, self.geometry.min_samples(2 if self.cmvn else 1))

    @property
    def uses_utterance_statistics(self) -> bool:
        """True: the level, and CMVN, are those of the whole utterance."""
        return True

    @property
    def streaming_obstacle(self) -> str | None:
        """Reason why the features cannot be computed frame by frame."""
        return "its front end brings the whole utterance to one level, and mirrors its ends"

    def _of_one(self, waveform: Tensor) -> Tensor:
        return _features(waveform, self)

    def _of_padded(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return _padded_features(waveforms, lengths, self)


def _features(waveform: Tensor, config: LogMelConfig) -> Tensor:
    """Features (T, D) of one utterance (S,)."""
    features = append_deltas(
        _spectral(waveform, config), order=config.delta_order, window=DELTA_WINDOW
    )
    if config.cmvn:
        # The original is (D, T), which changes the order of summation.
        features = features.T.contiguous()
        features = cmvn(features, time_dim=1, epsilon=EPSILON).T
    return features


def _padded_features(
    waveforms: Tensor, lengths: Tensor, config: LogMelConfig
) -> tuple[Tensor, Tensor]:
    """Features (B, T, D) of a padded batch (B, S), and their valid frames (B,)."""
    num_frames = config.num_frames(lengths)
    half = config.fft_samples // 2
    mean_square = waveforms.pow(2).sum(1, keepdim=True) / lengths.unsqueeze(1)
    leveled = waveforms * _gain(mean_square, config.target_level_db)
    # Reflection at the ends of each utterance.
    positions = torch.arange(-half, waveforms.shape[1] + half, device=waveforms.device).abs()
    last = lengths.unsqueeze(1) - 1
    mirrored = (last - (positions - last).abs()).clamp(min=0)
    windows = leveled.gather(1, mirrored).unfold(1, config.fft_samples, config.hop_samples)
    features = padded_deltas(
        _from_frames(windows, config), num_frames, order=config.delta_order, window=DELTA_WINDOW
    )
    if config.cmvn:
        features = padded_cmvn(features, num_frames, epsilon=EPSILON)
    return features, num_frames


def _spectral(waveform: Tensor, config: LogMelConfig) -> Tensor:
    """Features (T, D) of one utterance (S,), before deltas and normalisation."""
    features_of = functools.partial(_from_frames, config=config)
    half = config.fft_samples // 2
    leveled = waveform * _gain(waveform.pow(2).mean(), config.target_level_db)
    padded = F.pad(leveled.view(1, 1, -1), (half, half), mode="reflect")
    return transform_windows(
        padded.view(-1), size=config.fft_samples, stride=config.hop_samples, transform=features_of
    )


def _gain(mean_square: Tensor, target_level_db: float | None) -> Tensor | float:
    """The factor to a level, `10^(level / 20) / (rms + 1e-10)`; 1 for none."""
    if target_level_db is None:
        return 1.0
    # The square root has no gradient at 0, for digital silence.
    is_silent = mean_square == 0.0
    rms = mean_square.masked_fill(is_silent, 1.0).sqrt().masked_fill(is_silent, 0.0)
    gain: Tensor = 10.0 ** (target_level_db / 20.0) / (rms + EPSILON)
    return gain


def _from_frames(frames: Tensor, config: LogMelConfig) -> Tensor:
    """Features (..., D) of frames (..., fft_samples)."""
    windowed = frames * constant(_window, config).to(frames.device)
    return _from_power(magnitudes(windowed, size=config.fft_samples).pow(2), config)


def _from_power(power: Tensor, config: LogMelConfig) -> Tensor:
    """Features (..., D) of `config.kind` from the power spectrum (..., bins)."""
    if config.kind == "mfcc":
        bands = power @ constant(_mel_filters, MFCC_NUM_MELS, config).to(power.device)
        return (bands + MFCC_LOG_OFFSET).log() @ constant(_cosine_transform, config.num_mfcc).to(
            power.device
        )
    if config.kind == "mel":
        power = power @ constant(_mel_filters, config.num_mels, config).to(power.device)
    return (power + EPSILON).log() if config.log else power


@functools.lru_cache(maxsize=32)
def _window(config: LogMelConfig) -> Tensor:
    """Periodic Hann window, centred in the transform: (fft_samples,) float32 on the CPU."""
    spare = config.fft_samples - config.window_samples
    # An inference tensor cannot be saved for a backward pass.
    with torch.inference_mode(False):
        hann = torch.hann_window(config.window_samples, device="cpu")
        return F.pad(hann, (spare // 2, spare - spare // 2))


@functools.lru_cache(maxsize=32)
def _mel_filters(num_mels: int, config: LogMelConfig) -> Tensor:
    """Filters (num_freqs, num_mels), triangular in Hz from 0 to Nyquist, not area-normalised.

    Float32 on the CPU; edges are evenly spaced on the HTK scale, 2595 log10(1 + f / 700).
    """
    nyquist_hz = float(config.sample_rate // 2)
    with torch.inference_mode(False):
        top_mel = 2595.0 * math.log10(1.0 + nyquist_hz / 700.0)
        mel = torch.linspace(0.0, top_mel, num_mels + 2, device="cpu")
        edges_hz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
        bins_hz = torch.linspace(0.0, nyquist_hz, config.num_freqs, device="cpu").unsqueeze(1)
        rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
        falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
        return torch.minimum(rising, falling).clamp(min=0.0)


@functools.lru_cache(maxsize=32)
def _cosine_transform(num_mfcc: int) -> Tensor:
    """First `num_mfcc` columns of the orthonormal DCT-II: (MFCC_NUM_MELS, num_mfcc)."""
    with torch.inference_mode(False):
        band = torch.arange(float(MFCC_NUM_MELS), device="cpu")
        order = torch.arange(float(num_mfcc), device="cpu").unsqueeze(1)
        rows = torch.cos(math.pi / MFCC_NUM_MELS * (band + 0.5) * order)
        rows[0] *= 1.0 / math.sqrt(2.0)
        rows *= math.sqrt(2.0 / MFCC_NUM_MELS)
        return rows.T.contiguous()


WHISPER_FFT_SAMPLES = 400
WHISPER_HOP_SAMPLES = 160
POWER_FLOOR = 1e-10
"""Least power of a band before the logarithm."""

DYNAMIC_RANGE = 8.0
"""Decades below the largest band of an utterance at which all bands are cut."""

LINEAR_HZ = 1000.0
HZ_PER_MEL = 200.0 / 3.0
LOG_STEP = math.log(6.4) / 27.0
"""Slaney's scale: linear below 1 kHz, from there 27 mel for each factor of 6.4."""

_HALF = WHISPER_FFT_SAMPLES // 2
WHISPER_GEOMETRY = FrameGeometry(
    (
        Window(
            size=WHISPER_FFT_SAMPLES,
            stride=WHISPER_HOP_SAMPLES,
            pad_left=_HALF,
            pad_right=_HALF - 1,
        ),
    )
)
"""Frames centred on multiples of the hop, without the one at the end, which the authors drop."""


def whisper_log_mel(waveforms: Tensor, num_mels: int) -> Tensor:
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
        windows = mirrored.unfold(1, WHISPER_FFT_SAMPLES, WHISPER_HOP_SAMPLES)[:, :-1]
        windows = windows * constant(_whisper_window).to(waveforms.device)
        power = magnitudes(windows, size=WHISPER_FFT_SAMPLES).pow(2)
        bands = power @ constant(_whisper_filters, num_mels).to(waveforms.device)
        bands = bands.clamp(min=POWER_FLOOR).log10()
        floor = bands.amax(dim=(1, 2), keepdim=True) - DYNAMIC_RANGE
        return (torch.maximum(bands, floor) + 4.0) / 4.0


@functools.lru_cache(maxsize=1)
def _whisper_window() -> Tensor:
    """Periodic Hann window (400,), float32 on the CPU."""
    with torch.inference_mode(False):  # such a tensor cannot be saved for a backward pass
        return torch.hann_window(WHISPER_FFT_SAMPLES, device="cpu")


@functools.lru_cache(maxsize=8)
def _whisper_filters(num_mels: int) -> Tensor:
    """Triangles of area 1 in Hz, evenly spaced on Slaney's scale: (201, num_mels), float32."""
    with torch.inference_mode(False):
        triangles, heights = slaney_triangles(num_mels, WHISPER_FFT_SAMPLES, 0.0, SAMPLE_RATE / 2)
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
