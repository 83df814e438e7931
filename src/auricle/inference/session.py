"""Streaming sessions: samples in as they arrive, frames out as soon as they are decided.

A family defines its steps (`Encoder.stream_steps`). Everything else (checks, the choice of a layer,
statistics, the end) is here, once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from auricle.audio.inputs import as_waveforms
from auricle.errors import AudioError, AuricleError
from auricle.inference.stages import (
    CODES,
    Moments,
    NormFunction,
    RunningMoments,
    Stage,
    Step,
    StreamNorm,
    running,
)
from auricle.info import SAMPLE_RATE, LayerInfo, ModelInfo
from auricle.nn.cpu.policy import first_change

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_SAMPLES = 32_000
"""Largest chunk of samples that goes through the encoder, so that a long push needs no memory."""

CHUNK_FRAMES = 4_096
"""Largest chunk of frames that goes through a step while statistics are measured."""


class StreamingEncoder(Protocol):
    """Part of an encoder that a stream needs; a protocol, so that encoders may import streams."""

    training: bool

    @property
    def family(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def info(self) -> ModelInfo: ...

    def stream_steps(self) -> Iterator[Step]: ...

    def stream_refusal(self, reason: str) -> AuricleError: ...


def _unchanged(x: Tensor) -> Tensor:
    return x


@dataclasses.dataclass(frozen=True)
class StreamStatistics:
    """Means and variances of an encoder's norms over given waveforms, for its streams to go by.

    `Encoder.stream_statistics` measures them.

    Attributes:
        model: Name of the encoder.
        family: Stem of its family.
        sha256: Of the checkpoint that its weights come from, None where that is not known.
        moments: Those of each norm, by the name of its step; none where an encoder has no norm
            over the utterance.
    """

    model: str
    family: str
    sha256: str | None
    moments: Mapping[str, Moments]


Normalisation = Literal["running"] | StreamStatistics


class StreamSession:
    """An encoder over samples that arrive a few at a time; `Encoder.stream` opens one.

    Frames do not depend on how the samples are divided into pushes. The state kept from push to
    push does not grow with the stream. Sessions of one encoder are independent of each other.

    Attributes:
        layer: Name of the layer whose frames come out, or that the codes are read from.
        num_samples: Samples pushed so far.
        num_frames: Frames that have come out so far.
        latency_samples: Samples in the span of a frame. A frame comes out with the last sample
            of its span, so it is that much later than the first one; `finish` gives those whose
            span reaches beyond the end.
    """

    def __init__(
        self,
        encoder: StreamingEncoder,
        info: LayerInfo,
        *,
        gives_codes: bool,
        normalisation: Normalisation,
    ) -> None:
        _check_mode(encoder)
        _check_normalisation(normalisation, encoder)
        steps = _steps_up_to(CODES if gives_codes else info.name, encoder)
        self._encoder = encoder
        self._stages = [step.build(_norm_function(step, normalisation, encoder)) for step in steps]
        self._is_open = True
        self._nothing: Tensor | None = None
        """An output without frames (1, D, 0); None before the first push."""
        self.layer = info.name
        self.num_samples = 0
        self.num_frames = 0
        self.latency_samples = info.geometry.window_samples

    def push(self, samples: Tensor | NDArray[np.floating]) -> Tensor:
        """Take the next samples and give the frames that they decide.

        Args:
            samples: 1-D float tensor or array, at 16 kHz in [-1, 1], of any length. It may be
                written over afterwards.

        Returns:
            Tensor (frames, dim), float32, on the encoder's device; int64 (frames, codebooks) where
            codes were asked for. There may be no frame.

        Raises:
            AudioError: The samples are not 1-D or not floating point, or hold NaN or infinity.
                The stream is as it was.
            AuricleError: The stream has ended, or the encoder is in training mode.
        """
        self._check_open()
        waveform = self._checked(samples)
        frames = self._run(waveform, is_last=False)
        self.num_samples += len(waveform)
        return frames

    def finish(self) -> Tensor:
        """End the stream and give the frames that only its end decides.

        Returns:
            As `push`. Convolutions over padded ends (CPC) have such frames. A stream that was
            shorter than `min_samples` of the encoder may not have given a single one.

        Raises:
            AuricleError: As `push`.
        """
        self._check_open()
        frames = self._run(torch.zeros(0, device=self._encoder.device), is_last=True)
        self._is_open = False
        return frames

    def _check_open(self) -> None:
        if not self._is_open:
            raise AuricleError("this stream has ended: open another one with encoder.stream()")
        _check_mode(self._encoder)

    def _checked(self, samples: object) -> Tensor:
        """The samples (S,), float32, on the encoder's device."""
        device = self._encoder.device
        if not isinstance(samples, Tensor | np.ndarray):
            raise AudioError(
                f"got {type(samples).__name__}: push a 1-D float tensor or array of samples at "
                "16 kHz (auricle.audio reads and resamples files)"
            )
        if samples.ndim == 1 and len(samples) == 0:
            return torch.zeros(0, device=device)
        (waveform,) = as_waveforms([samples], sample_rate=SAMPLE_RATE, min_samples=1, device=device)
        return waveform

    def _run(self, waveform: Tensor, *, is_last: bool) -> Tensor:
        # If a stage fails, those before it are ahead of those after it: the stream stays closed.
        self._is_open = False
        with torch.inference_mode():
            chunks = torch.split(waveform.view(1, 1, -1), CHUNK_SAMPLES, dim=2)
            outputs = [self._encode(chunk, is_last=is_last)[0].T for chunk in chunks]
            frames = torch.cat(outputs)
        self._is_open = True
        self.num_frames += len(frames)
        return frames.float() if frames.is_floating_point() else frames

    def _encode(self, x: Tensor, *, is_last: bool) -> Tensor:
        """New frames (1, D, T) out of new samples `x` (1, 1, S)."""
        for stage in self._stages:
            if self._nothing is not None and x.shape[2] == 0 and not is_last:
                return self._nothing
            x = stage(x, is_last=is_last)
        self._nothing = x[:, :, :0].clone()
        return x


def measured(encoder: StreamingEncoder, waveforms: Sequence[Tensor]) -> StreamStatistics:
    """Statistics of every norm of an encoder over checked waveforms, each (S,).

    Step by step: a norm is measured on the waveforms as normalised by the statistics of the norms
    before it. The output of one step for all of the waveforms is held in memory.
    """
    _check_mode(encoder)
    if not waveforms:
        raise AudioError("got no waveforms: pass some to measure statistics on")
    moments: dict[str, Moments] = {}
    with torch.inference_mode():
        inputs = [waveform.view(1, 1, -1) for waveform in waveforms]
        for step in _steps_of(encoder):
            if step.norm is not None:
                measuring = Measuring(step.norm)
                for x in inputs:
                    for _ in _outputs(step.build(measuring), x):
                        pass
                assert measuring.moments is not None
                moments[step.name] = measuring.moments
            function = _unchanged if step.norm is None else fixed(step.norm, moments[step.name])
            inputs = [torch.cat(list(_outputs(step.build(function), x)), dim=2) for x in inputs]
    info = encoder.info
    return StreamStatistics(info.name, info.family, info.sha256, moments)


def _steps_of(encoder: StreamingEncoder) -> Iterator[Step]:
    """The steps of an encoder, in order of depth."""
    if change := first_change(cast("nn.Module", encoder)):
        raise encoder.stream_refusal(
            f"{change} has a hook, an adapter or a changed weight, which a stream would pass over "
            "(remove the hook, or merge it into the weights)"
        )
    yield from encoder.stream_steps()


def _steps_up_to(name: str, encoder: StreamingEncoder) -> Iterator[Step]:
    for step in _steps_of(encoder):
        yield step
        if step.name == name:
            return
    raise encoder.stream_refusal(f"its family defines no step of a stream that gives {name}")


def _norm_function(
    step: Step, normalisation: Normalisation, encoder: StreamingEncoder
) -> NormFunction:
    norm = step.norm
    if norm is None:
        return _unchanged
    if not isinstance(normalisation, StreamStatistics):
        if norm.refuses_running is not None:
            raise encoder.stream_refusal(
                f"{norm.refuses_running} (or pass normalisation=encoder.stream_statistics(wavs))"
            )
        return running(norm)
    moments = normalisation.moments.get(step.name)
    if moments is None or moments.mean.shape != (norm.num_groups, 1):
        raise _misfit(normalisation, encoder)
    return fixed(norm, moments)


def _check_normalisation(normalisation: object, encoder: StreamingEncoder) -> None:
    if isinstance(normalisation, StreamStatistics):
        digests = {normalisation.sha256, encoder.info.sha256} - {None}
        if normalisation.family != encoder.family or len(digests) > 1:
            raise _misfit(normalisation, encoder)
    elif normalisation != "running":
        raise AuricleError(
            f"normalisation is {normalisation!r}, expected 'running' or what "
            "encoder.stream_statistics(wavs) gives"
        )


def _misfit(statistics: StreamStatistics, encoder: StreamingEncoder) -> AuricleError:
    return AuricleError(
        f"these statistics, measured with {statistics.model}, are not of {encoder.info.name}: "
        "measure them with the stream_statistics(wavs) of the encoder that streams"
    )


def _outputs(stage: Stage, x: Tensor) -> Iterator[Tensor]:
    """Outputs of a stage for all of `x` (1, D, T), chunk by chunk."""
    size = CHUNK_SAMPLES if x.shape[1] == 1 else CHUNK_FRAMES
    for chunk in torch.split(x, size, dim=2):
        yield stage(chunk, is_last=False)
    yield stage(x[:, :, :0], is_last=True)


def _check_mode(encoder: StreamingEncoder) -> None:
    if encoder.training:
        raise AuricleError(
            f"{encoder.info.name} is in training mode, where dropout and batch norms act on what "
            "a stream cannot know: call encoder.eval() first"
        )


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
