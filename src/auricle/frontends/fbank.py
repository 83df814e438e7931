"""Kaldi's log mel filterbank, equal to `torchaudio.compliance.kaldi.fbank`."""

from __future__ import annotations

import functools
import math
from typing import Literal

import msgspec
import torch
from torch import Tensor

from auricle.frontends.framing import (
    Frontend,
    append_deltas,
    cmvn,
    constant,
    is_plain,
    magnitudes,
    numpy_cmvn,
    padded_cmvn,
    padded_deltas,
    padded_mean,
    transform_windows,
)
from auricle.info import FrameGeometry, Window

# Kaldi floors energies at float32's machine epsilon before the logarithm (feature-fbank.cc).
ENERGY_FLOOR = 2.0**-23
MS_TO_SECONDS = 0.001
POVEY_EXPONENT = 0.85
MEL_SCALE = 1127.0
WINDOWS = ("hamming", "hanning", "povey", "rectangular", "blackman")


class FbankConfig(
    Frontend,
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="fbank",
):
    """Options of Kaldi's filterbank; in brackets their names in torchaudio.compliance.kaldi.fbank.

    Fixed: whole frames only (`snip_edges`), no dither (0.0 by default there, as noise is not
    reproducible), no energy column (`use_energy`), no vocal tract length warping.

    Attributes:
        num_mels: Triangular filters (`num_mel_bins`; `feat_dim` in APC, VQ-APC and NPC files).
        frame_length_ms: Analysis window (`frame_length`).
        frame_shift_ms: Hop (`frame_shift`).
        window: Shape of the analysis window (`window_type`; Hamming in the APC, VQ-APC and NPC
            code, Povey where a kaldi section names none).
        blackman_coeff: Constant term of the Blackman window (`blackman_coeff`).
        preemphasis: Weight of the subtracted previous sample (`preemphasis_coefficient`).
        remove_dc_offset: Whether to subtract the mean of each frame (`remove_dc_offset`).
        round_to_power_of_two: Whether to zero-pad frames for the Fourier transform
            (`round_to_power_of_two`).
        use_power: Whether to use squared magnitudes instead of magnitudes (`use_power`).
        low_hz: Lower edge of the filters (`low_freq`).
        high_hz: Upper edge (`high_freq`); 0 or below is relative to the Nyquist frequency.
        use_log: Whether to take the natural logarithm, floored at float32 epsilon
            (`use_log_fbank`).
        subtract_mean: Whether to subtract the mean of the utterance before the deltas
            (`subtract_mean`).
        delta_order: Order of the appended deltas (`delta.order` in the TERA and Mockingjay files).
        delta_window: Frames of each regression (`delta.win_length`).
        cmvn: Whether to apply mean and variance normalisation per utterance, last (`cmvn`,
            `cmvn.use_cmvn`).
        cmvn_epsilon: Added to the standard deviation (1e-10 in the originals).
        epsilon_in_variance: Whether it is added to the variance instead (transformers'
            `SeamlessM4TFeatureExtractor`).
        stack: Neighbouring frames that are laid side by side into one, the earliest first; what
            is left over at the end counts in the statistics and is dropped (`stride` ibid.).
        sample_scale: Factor of the samples (2^15 ibid., for the range of 16-bit integers).
        double_precision: Whether to compute in float64 up to the logarithm, but for the spectrum,
            which is rounded to float32, and to sum in NumPy's order, as ibid.
        sample_rate: Of the waveforms, in Hz (`sample_frequency`).
    """

    num_mels: int = 80
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    window: Literal["hamming", "hanning", "povey", "rectangular", "blackman"] = "hamming"
    blackman_coeff: float = 0.42
    preemphasis: float = 0.97
    remove_dc_offset: bool = True
    round_to_power_of_two: bool = True
    use_power: bool = True
    low_hz: float = 20.0
    high_hz: float = 0.0
    use_log: bool = True
    subtract_mean: bool = False
    delta_order: int = 0
    delta_window: int = 5
    cmvn: bool = False
    cmvn_epsilon: float = 1e-10
    epsilon_in_variance: bool = False
    stack: int = 1
    sample_scale: float = 1.0
    double_precision: bool = False
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        nyquist_hz = self.sample_rate / 2
        checks = (
            ("sample_rate", self.sample_rate >= 1, "at least 1 Hz"),
            ("num_mels", self.num_mels >= 1, "at least 1"),
            ("window", self.window in WINDOWS, f"one of {', '.join(WINDOWS)}"),
            ("frame_length_ms", self.frame_samples >= 2, "at least two samples long"),
            ("frame_length_ms", self.fft_samples % 2 == 0, "an even number of samples"),
            ("frame_shift_ms", self.hop_samples >= 1, "at least one sample long"),
            ("preemphasis", 0.0 <= self.preemphasis <= 1.0, "in [0, 1]"),
            ("low_hz", 0.0 <= self.low_hz < nyquist_hz, f"in [0, {nyquist_hz})"),
            (
                "high_hz",
                self.low_hz < self.top_hz <= nyquist_hz,
                f"above low_hz and at most {nyquist_hz}, or 0 or below to count from there",
            ),
            ("delta_order", self.delta_order >= 0, "at least 0"),
            ("delta_window", self.delta_window >= 3, "at least 3 frames"),
            ("cmvn_epsilon", self.cmvn_epsilon >= 0.0, "at least 0"),
            ("stack", self.stack >= 1, "at least 1 frame"),
            ("sample_scale", self.sample_scale > 0.0, "above 0"),
        )
        for name, holds, expected in checks:
            if not holds:
                raise ValueError(f"{name} must be {expected}, but is {getattr(self, name)!r}")

    @property
    def frame_samples(self) -> int:
        """Samples of an analysis window, rounded down as in torchaudio."""
        return int(self.sample_rate * self.frame_length_ms * MS_TO_SECONDS)

    @property
    def hop_samples(self) -> int:
        """Samples between frames, rounded down as in torchaudio."""
        return int(self.sample_rate * self.frame_shift_ms * MS_TO_SECONDS)

    @property
    def fft_samples(self) -> int:
        """Length of the Fourier transform in samples."""
        if self.round_to_power_of_two:
            return 1 << (self.frame_samples - 1).bit_length()
        return self.frame_samples

    @property
    def top_hz(self) -> float:
        """Upper edge of the last filter in Hz."""
        return self.high_hz if self.high_hz > 0.0 else self.high_hz + self.sample_rate / 2

    @property
    def dim(self) -> int:
        """Width of a feature frame, deltas and stacked neighbours included."""
        return self.num_mels * (1 + self.delta_order) * self.stack

    @property
    def _windows(self) -> FrameGeometry:
        """Frame geometry before frames are stacked."""
        return FrameGeometry((Window(size=self.frame_samples, stride=self.hop_samples),))

    @property
    def geometry(self) -> FrameGeometry:
        """Frame geometry: whole windows only."""
        if self.stack == 1:
            return self._windows
        return FrameGeometry((*self._windows.windows, Window(size=self.stack, stride=self.stack)))

    @property
    def min_samples(self) -> int:
        """Length of the shortest valid waveform: one frame, or two analysis windows for CMVN."""
        return max(self.geometry.min_samples(), self._windows.min_samples(2 if self.cmvn else 1))

    @property
    def uses_utterance_statistics(self) -> bool:
        """True if a frame depends on statistics of the whole utterance."""
        return self.cmvn or self.subtract_mean

    @property
    def streaming_obstacle(self) -> str | None:
        """Reason why the features cannot be computed frame by frame; None if they can."""
        if self.delta_order > 0:
            return "its deltas (delta_order) regress over frames ahead"
        if self.subtract_mean:
            return "it subtracts the mean over the whole utterance (subtract_mean)"
        if self.stack > 1 or self.epsilon_in_variance:
            return "streams neither stack frames nor add cmvn_epsilon to a variance"
        return None

    def _of_one(self, waveform: Tensor) -> Tensor:
        return _features(waveform, self)

    def _of_padded(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return _padded_features(waveforms, lengths, self)


def _features(waveform: Tensor, config: FbankConfig) -> Tensor:
    """Features (T, D) of one utterance (S,)."""
    transform = functools.partial(
        _filterbank,
        window=_on(waveform, constant(_window, config)),
        filters=_on(waveform, constant(_mel_filters, config)),
        config=config,
    )
    features = transform_windows(
        waveform, size=config.frame_samples, stride=config.hop_samples, transform=transform
    )
    if config.subtract_mean:
        features = features - features.mean(0, keepdim=True)
    features = append_deltas(features, order=config.delta_order, window=config.delta_window)
    if config.cmvn:
        normalise = cmvn
        if config.double_precision and is_plain(features):
            normalise = numpy_cmvn
        features = normalise(
            features,
            time_dim=0,
            epsilon=config.cmvn_epsilon,
            in_variance=config.epsilon_in_variance,
        )
    return _stacked(features, config)


def _stacked(features: Tensor, config: FbankConfig) -> Tensor:
    """Groups of neighbouring frames of (..., T, D) side by side, without those left over."""
    if config.stack == 1:
        return features
    end = features.shape[-2] // config.stack * config.stack
    columns = [features[..., place : end : config.stack, :] for place in range(config.stack)]
    return torch.cat(columns, dim=-1)


def _padded_features(
    waveforms: Tensor, lengths: Tensor, config: FbankConfig
) -> tuple[Tensor, Tensor]:
    """Features (B, T, D) of a padded batch (B, S), and their valid frames (B,)."""
    num_frames = config._windows.num_frames(lengths)
    features = _filterbank(
        waveforms.unfold(1, config.frame_samples, config.hop_samples),
        window=_on(waveforms, constant(_window, config)),
        filters=_on(waveforms, constant(_mel_filters, config)),
        config=config,
    )
    if config.subtract_mean:
        features = features - padded_mean(features, num_frames)
    features = padded_deltas(
        features, num_frames, order=config.delta_order, window=config.delta_window
    )
    if config.cmvn:
        features = padded_cmvn(
            features,
            num_frames,
            epsilon=config.cmvn_epsilon,
            in_variance=config.epsilon_in_variance,
        )
    return _stacked(features, config), num_frames // config.stack


def _filterbank(frames: Tensor, *, window: Tensor, filters: Tensor, config: FbankConfig) -> Tensor:
    """Filterbank energies (..., num_mels) of frames (..., frame_samples)."""
    frames = frames.to(window.dtype)
    if config.sample_scale != 1.0:
        frames = frames * config.sample_scale
    if config.remove_dc_offset:
        frames = frames - frames.mean(-1, keepdim=True)
    if config.preemphasis:
        # The first sample is its own predecessor.
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = frames - config.preemphasis * previous
    spectrum = magnitudes(frames * window, size=config.fft_samples, single=config.double_precision)
    if config.use_power:
        spectrum = spectrum.pow(2.0)
    energies = spectrum @ filters
    return (energies.clamp(min=ENERGY_FLOOR).log() if config.use_log else energies).float()


@functools.lru_cache(maxsize=32)
def _window(config: FbankConfig) -> Tensor:
    """Symmetric analysis window (frame_samples,), on the CPU."""
    size = config.frame_samples
    # An inference tensor cannot be saved for a backward pass.
    with torch.inference_mode(False):
        dtype, device = _dtype(config), torch.device("cpu")
        if config.window == "hamming":
            return torch.hamming_window(
                size, periodic=False, alpha=0.54, beta=0.46, dtype=dtype, device=device
            )
        if config.window == "hanning":
            return torch.hann_window(size, periodic=False, dtype=dtype, device=device)
        if config.window == "povey":
            hann = torch.hann_window(size, periodic=False, dtype=dtype, device=device)
            return hann.pow(POVEY_EXPONENT)
        if config.window == "rectangular":
            return torch.ones(size, dtype=dtype, device=device)
        angle = 2.0 * math.pi * torch.arange(size, dtype=dtype, device=device) / (size - 1)
        constant = config.blackman_coeff
        return constant - 0.5 * angle.cos() + (0.5 - constant) * (2.0 * angle).cos()


def _on(x: Tensor, constant: Tensor) -> Tensor:
    """A constant on the device of `x`; Apple's have no float64."""
    return constant.float().to(x.device) if x.device.type == "mps" else constant.to(x.device)


def _dtype(config: FbankConfig) -> torch.dtype:
    return torch.float64 if config.double_precision else torch.float32


@functools.lru_cache(maxsize=32)
def _mel_filters(config: FbankConfig) -> Tensor:
    """Filters (fft_samples // 2 + 1, num_mels), triangular in mel, on the CPU."""
    low, high = (MEL_SCALE * math.log(1.0 + hz / 700.0) for hz in (config.low_hz, config.top_hz))
    spacing = (high - low) / (config.num_mels + 1)
    with torch.inference_mode(False):
        band = torch.arange(config.num_mels, dtype=_dtype(config), device="cpu")
        left = low + band * spacing
        centre = low + (band + 1.0) * spacing
        right = low + (band + 2.0) * spacing
        bins_hz = (config.sample_rate / config.fft_samples) * torch.arange(
            config.fft_samples // 2, dtype=_dtype(config), device="cpu"
        )
        bins = (MEL_SCALE * (1.0 + bins_hz / 700.0).log()).unsqueeze(1)
        rising = (bins - left) / (centre - left)
        falling = (right - bins) / (right - centre)
        triangles = torch.minimum(rising, falling).clamp(min=0.0)
        # Kaldi omits the Nyquist bin, whatever the upper edge.
        return torch.cat([triangles, torch.zeros_like(triangles[:1])])
