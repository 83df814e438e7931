"""Log mel features of NeMo and of SpeechBrain: Fourier transforms with zeros around the waveform.

Both take frames that are centred on multiples of the hop. NeMo's front end (FastConformer,
arXiv:2305.05084) drops the one at the end, SpeechBrain's (arXiv:2106.04624) keeps it.
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
    cmvn,
    constant,
    is_padding,
    magnitudes,
    padded_cmvn,
    transform_windows,
)
from auricle.frontends.log_mel import slaney_triangles
from auricle.info import SAMPLE_RATE, FrameGeometry, Window

NEMO_LOG_OFFSET = 2.0**-24
"""Added to the power of a band before the logarithm (`log_zero_guard_value`)."""

NEMO_EPSILON = 1e-5
"""Added to the standard deviation."""

DECIBEL_FLOOR = 1e-10
"""Least power of a band before the logarithm (`amin`)."""

DYNAMIC_RANGE_DB = 80.0
"""Below the largest band of an utterance, at which all bands are cut (`top_db`)."""

LEAST_DEVIATION = 1e-10
"""Least standard deviation that a band is divided by (`InputNormalization`)."""


class _CentredFrontend(Frontend):
    """Base of both: windows over a waveform with half a transform of zeros on either side."""

    __slots__ = ()

    fft_samples: int
    window_samples: int
    hop_samples: int
    num_mels: int

    @property
    def dim(self) -> int:
        """Width of a feature frame."""
        return self.num_mels

    @property
    def streaming_obstacle(self) -> str | None:
        """Reason why the features cannot be computed frame by frame."""
        return "its front end compares every frame with the whole utterance"

    def _check(self) -> None:
        smallest = min(self.num_mels, self.fft_samples, self.window_samples, self.hop_samples)
        if smallest < 1 or self.window_samples > self.fft_samples or self.fft_samples % 2:
            raise ValueError(
                "num_mels, fft_samples, window_samples and hop_samples must be at least 1, a "
                "transform even and a window at most as long, but they are "
                f"{self.num_mels}, {self.fft_samples}, {self.window_samples} and "
                f"{self.hop_samples}"
            )

    @property
    def _before(self) -> int:
        """Samples of a window before the multiple of the hop that it is centred on."""
        return self.fft_samples // 2 - (self.fft_samples - self.window_samples) // 2

    def _windows(self, waveforms: Tensor, num_frames: int) -> Tensor:
        """Samples (B, S') whose windows of a transform, a hop apart, are `num_frames`."""
        before = self.fft_samples // 2
        size = (num_frames - 1) * self.hop_samples + self.fft_samples
        return F.pad(waveforms, (before, size - before - waveforms.shape[1]))


class NemoMelConfig(
    _CentredFrontend,
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="nemo_mel",
):
    """Options of NeMo's log mel features; in brackets its names and those of transformers.

    Attributes:
        num_mels: Bands, triangles of area 1 in Hz on Slaney's scale (`features`; `feature_size`).
        fft_samples: Length of the Fourier transform (`n_fft`).
        window_samples: Window, in the middle of the transform (`window_size`; `win_length`).
        hop_samples: Hop (`window_stride`; `hop_length`).
        window: Its shape, symmetric (`window`).
        preemphasis: Share of the sample before that is taken from each; 0 for none (`preemph`;
            `preemphasis`).
        normalize: Whether mean and deviation over the utterance are those of each `"band"`, of
            `"all"` together, or features stay as they are (`normalize`: `per_feature`,
            `all_features`).
        low_hz: Lower edge of the first band (`lowfreq`).
        high_hz: Upper edge of the last band (`highfreq`).
    """

    num_mels: int = 80
    fft_samples: int = 512
    window_samples: int = 400
    hop_samples: int = 160
    window: Literal["hann", "hamming"] = "hann"
    preemphasis: float = 0.97
    normalize: Literal["band", "all", "none"] = "band"
    low_hz: float = 0.0
    high_hz: float = SAMPLE_RATE / 2

    def __post_init__(self) -> None:
        self._check()
        if not 0.0 <= self.low_hz < self.high_hz <= SAMPLE_RATE / 2:
            raise ValueError(
                "low_hz and high_hz must be in order and at most 8000, but are "
                f"{self.low_hz} and {self.high_hz}"
            )

    @property
    def geometry(self) -> FrameGeometry:
        """Frames centred on multiples of the hop, without the one at the end.

        The ends of a Hann window are 0, so that pre-emphasis reaches no further than it.
        """
        before, after = self._before, self.window_samples - self._before
        reach = 1 if self.preemphasis and self.window == "hamming" else 0
        # A window of less than a hop's samples still begins a frame at each hop.
        size = max(before + after, before + self.hop_samples)
        window = Window(
            size=size + reach,
            stride=self.hop_samples,
            pad_left=before + reach,
            pad_right=max(after - self.hop_samples, 0),
        )
        return FrameGeometry((window,))

    @property
    def min_samples(self) -> int:
        """Length of the shortest valid waveform: normalisation needs two frames."""
        return self.geometry.min_samples(1 if self.normalize == "none" else 2)

    @property
    def uses_utterance_statistics(self) -> bool:
        """True if a frame depends on statistics of the whole utterance."""
        return self.normalize != "none"

    def _of_one(self, waveform: Tensor) -> Tensor:
        emphasised = _emphasised(waveform.unsqueeze(0), self.preemphasis)
        samples = self._windows(emphasised, self.num_frames(len(waveform)))[0]
        features = transform_windows(
            samples, size=self.fft_samples, stride=self.hop_samples, transform=self._bands
        )
        if self.normalize == "band":
            # The original is (D, T), which changes the order of summation.
            return cmvn(features.T.contiguous(), time_dim=1, epsilon=NEMO_EPSILON).T
        if self.normalize == "all":
            return cmvn(features.view(-1, 1), time_dim=0, epsilon=NEMO_EPSILON).view_as(features)
        return features

    def _of_padded(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        num_frames = self.num_frames(lengths)
        emphasised = _emphasised(waveforms, self.preemphasis)
        emphasised = emphasised.masked_fill(is_padding(emphasised, lengths), 0.0)
        half = self.fft_samples // 2
        windows = F.pad(emphasised, (half, half)).unfold(1, self.fft_samples, self.hop_samples)
        features = self._bands(windows[:, :-1])
        if self.normalize == "band":
            features = padded_cmvn(features, num_frames, epsilon=NEMO_EPSILON)
        elif self.normalize == "all":
            flat, count = features.flatten(1).unsqueeze(2), num_frames * self.num_mels
            features = padded_cmvn(flat, count, epsilon=NEMO_EPSILON).view_as(features)
        return features, num_frames

    def _bands(self, windows: Tensor) -> Tensor:
        """Logarithms (..., num_mels) of the power of bands of windows (..., fft_samples)."""
        windows = windows * constant(_nemo_window, self).to(windows.device)
        power = magnitudes(windows, size=self.fft_samples).pow(2)
        filters = constant(_nemo_filters, self).to(windows.device)
        # In the authors' order, for the same reason as the filters' rounding.
        bands = (filters @ power.transpose(-2, -1)).transpose(-2, -1)
        return (bands + NEMO_LOG_OFFSET).log()


class SpeechBrainMelConfig(
    _CentredFrontend,
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="speechbrain_mel",
):
    """Options of SpeechBrain's log mel features; in brackets the names of `Fbank`.

    Attributes:
        num_mels: Triangles on the HTK mel scale, each as wide on both sides as its left slope
            (`n_mels`).
        fft_samples: Length of the Fourier transform (`n_fft`).
        window_samples: Periodic Hamming window (`win_length`, in ms).
        hop_samples: Hop (`hop_length`, in ms).
        low_hz: Lower edge of the first band (`f_min`).
        high_hz: Centre of the band after the last one (`f_max`).
        cmvn: Whether bands are normalised over the utterance (`InputNormalization`).
    """

    num_mels: int = 80
    fft_samples: int = 400
    window_samples: int = 400
    hop_samples: int = 160
    low_hz: float = 0.0
    high_hz: float = SAMPLE_RATE / 2
    cmvn: bool = True

    def __post_init__(self) -> None:
        self._check()
        if not 0.0 <= self.low_hz < self.high_hz:
            raise ValueError(
                f"low_hz must be below high_hz, but they are {self.low_hz} and {self.high_hz}"
            )

    @property
    def geometry(self) -> FrameGeometry:
        """Frames centred on multiples of the hop."""
        window = Window(
            size=self.window_samples,
            stride=self.hop_samples,
            pad_left=self._before,
            pad_right=self.window_samples - self._before,
        )
        return FrameGeometry((window,))

    @property
    def min_samples(self) -> int:
        """Length of the shortest valid waveform: normalisation needs two frames."""
        return self.geometry.min_samples(2 if self.cmvn else 1)

    @property
    def uses_utterance_statistics(self) -> bool:
        """True: bands are cut below the largest one of the utterance."""
        return True

    def _of_one(self, waveform: Tensor) -> Tensor:
        samples = self._windows(waveform.unsqueeze(0), self.num_frames(len(waveform)))[0]
        decibels = transform_windows(
            samples, size=self.fft_samples, stride=self.hop_samples, transform=self._decibels
        )
        features = torch.maximum(decibels, decibels.amax() - DYNAMIC_RANGE_DB)
        if not self.cmvn:
            return features
        centred = features - features.mean(0)
        return centred / _deviation(centred.square().mean(0))

    def _of_padded(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        num_frames = self.num_frames(lengths)
        half = self.fft_samples // 2
        windows = F.pad(waveforms, (half, half)).unfold(1, self.fft_samples, self.hop_samples)
        decibels = self._decibels(windows)
        padding = is_padding(decibels, num_frames)
        # Frames after an utterance may see its last samples.
        highest = decibels.masked_fill(padding, -torch.inf).amax((1, 2), keepdim=True)
        features = torch.maximum(decibels, highest - DYNAMIC_RANGE_DB)
        if self.cmvn:
            count = num_frames.view(-1, 1, 1)
            mean = features.masked_fill(padding, 0.0).sum(1, keepdim=True) / count
            centred = (features - mean).masked_fill(padding, 0.0)
            features = centred / _deviation(centred.square().sum(1, keepdim=True) / count)
        return features, num_frames

    def _decibels(self, windows: Tensor) -> Tensor:
        """Level (..., num_mels) of bands of windows (..., fft_samples), in dB."""
        windows = windows * constant(_speechbrain_window, self).to(windows.device)
        power = magnitudes(windows, size=self.fft_samples).pow(2)
        bands = power @ constant(_speechbrain_filters, self).to(windows.device)
        return 10.0 * bands.clamp(min=DECIBEL_FLOOR).log10()


def _emphasised(waveforms: Tensor, share: float) -> Tensor:
    """Waveforms (B, S) less a share of the sample before, the first one as it is."""
    if share == 0.0:
        return waveforms
    return torch.cat([waveforms[:, :1], waveforms[:, 1:] - share * waveforms[:, :-1]], dim=1)


def _deviation(variance: Tensor) -> Tensor:
    """Its root, of which the gradient is finite where the variance is 0."""
    is_constant = variance <= LEAST_DEVIATION**2
    root = variance.masked_fill(is_constant, 1.0).sqrt()
    return root.masked_fill(is_constant, LEAST_DEVIATION)


def _centred(window: Tensor, size: int) -> Tensor:
    """A window in the middle of a transform of `size` samples."""
    spare = size - len(window)
    return F.pad(window, (spare // 2, spare - spare // 2))


@functools.lru_cache(maxsize=8)
def _nemo_window(config: NemoMelConfig) -> Tensor:
    """Symmetric window (fft_samples,), float32 on the CPU."""
    make = {"hann": torch.hann_window, "hamming": torch.hamming_window}[config.window]
    with torch.inference_mode(False):  # such a tensor cannot be saved for a backward pass
        window = make(config.window_samples, periodic=False, device="cpu")
        return _centred(window, config.fft_samples)


@functools.lru_cache(maxsize=8)
def _nemo_filters(config: NemoMelConfig) -> Tensor:
    """Filters (num_mels, fft_samples // 2 + 1), float32 on the CPU."""
    with torch.inference_mode(False):
        triangles, heights = slaney_triangles(
            config.num_mels, config.fft_samples, config.low_hz, config.high_hz
        )
        # Rounded twice, as librosa does: where frames are few and alike, rounding shows.
        return (triangles.float().double() * heights).float().T.contiguous()


@functools.lru_cache(maxsize=8)
def _speechbrain_window(config: SpeechBrainMelConfig) -> Tensor:
    """Periodic Hamming window (fft_samples,), float32 on the CPU."""
    with torch.inference_mode(False):
        window = torch.hamming_window(config.window_samples, device="cpu")
        return _centred(window, config.fft_samples)


@functools.lru_cache(maxsize=8)
def _speechbrain_filters(config: SpeechBrainMelConfig) -> Tensor:
    """Filters (fft_samples // 2 + 1, num_mels), float32 on the CPU."""
    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (config.low_hz, config.high_hz))
    with torch.inference_mode(False):
        mel = torch.linspace(low, high, config.num_mels + 2, device="cpu")
        edges = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
        bins = torch.linspace(0.0, SAMPLE_RATE / 2, config.fft_samples // 2 + 1, device="cpu")
        slope = (bins.unsqueeze(1) - edges[1:-1]) / (edges[1:-1] - edges[:-2])
        return (1.0 - slope.abs()).clamp(min=0.0)
