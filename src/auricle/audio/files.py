"""Audio files to mono float32 waveforms: headers, decoding, channel mixing and resampling."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor

from auricle.audio.notes import Levels, gathered, non_finite_reason
from auricle.audio.recordings import (
    AudioHeader,
    Recording,
    check_channel,
    count_samples,
    decode_count,
    open_recordings,
)
from auricle.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def read_header(path: str | os.PathLike[str]) -> AudioHeader:
    """Read length, sample rate and channels of a file without decoding it.

    Raises:
        AudioError: The file is missing, not audio, without samples or truncated.
    """
    with open_audio_bytes(path) as stream:
        return stream_header(stream, str(path))


def read_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int = 16_000,
    channel: int | None = None,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    overshoot_seconds: float = 0.0,
) -> Tensor:
    """Decode a file, or a span of it, to a mono waveform.

    Reads WAV, FLAC, OGG (Vorbis, Opus), MP3 and other formats of libsndfile at any rate and with
    any number of channels; MP4, Matroska and others if FFmpeg or torchcodec is installed. Integer
    samples are scaled to [-1, 1); float samples are not scaled. Memory grows with the mono
    waveform, not with the number of channels.

    Args:
        path: The file; its contents, not its name, determine the format.
        sample_rate: Rate of the result in Hz; the file is resampled to it if necessary.
        channel: Index of the channel to read, from 0; None for the mean of all channels.
        start_seconds: Start of the span.
        duration_seconds: Length of the span; None to read to the end. Both ends are rounded to the
            nearest sample of the file.
        overshoot_seconds: Tolerance by which the span may end after the file, where it is clipped,
            since durations in lists are rounded.

    Returns:
        Tensor (S,), float32, on the CPU. A span is resampled without the samples around it.

    Raises:
        AudioError: The file is missing, unreadable, not audio, empty, truncated or damaged, or
            holds NaN or infinity; the channel does not exist; the span is outside the file.
    """
    with open_audio_bytes(path) as stream:
        return decode_audio(
            stream,
            str(path),
            sample_rate=sample_rate,
            channel=channel,
            start_seconds=start_seconds,
            duration_seconds=duration_seconds,
            overshoot_seconds=overshoot_seconds,
        )


def open_audio_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading bytes, after checking that it is regular and not empty.

    Raises:
        AudioError: The file is missing, empty, not regular, or holds raw samples.
    """
    path = Path(path)
    if path.suffix.lower() == ".raw":
        raise AudioError(
            f"{path}: raw samples carry no header, so nothing is known of them: "
            "pass (samples, sample_rate) instead"
        )
    try:
        status = path.stat()
    except ValueError as error:  # a null character in the name
        raise AudioError(f"cannot open {str(path)!r}: {error}; check the path") from error
    except OSError as error:
        raise _unopened(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path} is a folder, expected an audio file: pass the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path} is a pipe or a device: write it to a regular file first")
    if status.st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes): copy or record it again")
    try:
        return path.open("rb")
    except OSError as error:
        raise _unopened(path, error) from error


def _unopened(path: Path, error: OSError) -> AudioError:
    return AudioError(
        f"cannot open {path}: {error.strerror}; check the path and that you may read it"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeSpan:
    """Span of a file in seconds; without a duration it extends to the end.

    It may end up to `overshoot` after the file, where it is clipped.
    """

    start: float = 0.0
    duration: float | None = None
    overshoot: float = 0.0

    def span(self, name: str, rate: int) -> tuple[int, int | None]:
        """Half-open range of samples, rounded to the nearest; an end of None is that of the file.

        Raises:
            AudioError: The span is empty or starts before the file.
        """
        if not (math.isfinite(self.start) and self.start >= 0):
            raise AudioError(f"{name}: start_seconds is {self.start!r}, expected 0 or more seconds")
        start = math.floor(self.start * rate + 0.5)
        if self.duration is None:
            return start, None
        stop = start
        if math.isfinite(self.duration) and self.duration > 0:
            # The end is rounded, not the duration, so that adjacent spans share a boundary.
            stop = math.floor((self.start + self.duration) * rate + 0.5)
        if stop <= start:
            raise AudioError(
                f"{name}: duration_seconds is {self.duration!r}, expected at least one sample, or "
                "None for all up to the end"
            )
        return start, stop

    def within(self, name: str, rate: int, held: int) -> tuple[int, int | None]:
        """Half-open range of samples within a file of `held` samples.

        Raises:
            AudioError: The span starts or ends after the file.
        """
        start, stop = self.span(name, rate)
        if start >= held:
            raise AudioError(
                f"{name}: start_seconds={self.start:g} is past the end, the file is "
                f"{held / rate:g} s long: give a time within it, in seconds; in a list another "
                "unit stands in the column's name (start_ms, start_samples)"
            )
        if stop is not None and stop > held:
            if stop > held + self.overshoot * rate:
                end = self.start + (self.duration or 0.0)
                raise AudioError(
                    f"{name}: the part ends at {end:g} s, but the file is {held / rate:g} s long: "
                    "leave the end, or the duration, out to read up to the end of the file"
                )
            stop = held
        return start, stop


def stream_header(stream: BinaryIO, name: str) -> AudioHeader:
    """Read the header of an open file; `name` stands for it in messages.

    Only `decode_audio` finds samples beyond the count of a FLAC header, and a second recording in
    an Ogg file that reuses the serial number of the first.
    """
    with gathered(), _opened(stream, name, is_thorough=False) as recordings:
        return AudioHeader(
            num_samples=count_samples(recordings),
            sample_rate=recordings[0].sample_rate,
            num_channels=recordings[0].num_channels,
        )


def decode_audio(
    stream: BinaryIO,
    name: str,
    *,
    sample_rate: int = 16_000,
    channel: int | None = None,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    overshoot_seconds: float = 0.0,
) -> Tensor:
    """Decode an open file as `read_audio` does; `name` stands for it in messages."""
    checked_rate(sample_rate)
    part = TimeSpan(start=start_seconds, duration=duration_seconds, overshoot=overshoot_seconds)
    with _opened(stream, name, is_thorough=True) as recordings:
        rate = recordings[0].sample_rate
        check_channel(recordings, channel, name)
        start, stop = part.span(name, rate)
        held = count_samples(recordings)
        if held is not None and (start >= held or (stop or 0) > held):
            if any(recording.is_count for recording in recordings):
                held = decode_count(recordings)
            start, stop = part.within(name, rate, held)
        mono, reached = _decode(recordings, start, stop, channel, name)
        if held is None:
            reached = reached if len(mono) else decode_count(recordings)
            part.within(name, rate, reached)
    if reason := non_finite_reason(torch.from_numpy(mono)):
        raise AudioError(f"{name}: {reason}")
    try:
        resampled = resample(mono, rate, sample_rate)
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error
    if len(resampled) == 0:
        raise AudioError(
            f"{name}: {len(mono)} sample(s) at {rate} Hz are less than one sample at "
            f"{sample_rate} Hz: leave the file out"
        )
    return torch.from_numpy(resampled)


@contextmanager
def _opened(stream: BinaryIO, name: str, *, is_thorough: bool) -> Iterator[list[Recording]]:
    """Open the recordings of a file, all at the rate of the first."""
    opened = open_recordings(stream, name, is_thorough=is_thorough)
    rate = opened[0].sample_rate
    try:
        yield [one if one.sample_rate == rate else ResampledRecording(one, rate) for one in opened]
    finally:
        for recording in opened:
            recording.close()


class ResampledRecording:
    """Recording resampled to the rate of the one before it."""

    is_count = False

    def __init__(self, recording: Recording, sample_rate: int) -> None:
        self._recording = recording
        self.sample_rate = sample_rate
        self.num_channels = recording.num_channels
        length = recording.num_samples
        if length is not None:
            length = math.floor(length * sample_rate / recording.sample_rate + 0.5)
        self.num_samples = length

    def blocks(self, start: int, stop: int | None) -> Iterator[NDArray[np.float32]]:
        """Decode as `Recording.blocks`, in one block, resampling the whole recording."""
        import numpy as np

        whole = np.concatenate(list(self._recording.blocks(0, None)))
        source = self._recording.sample_rate
        columns = [resample(channel, source, self.sample_rate) for channel in whole.T.copy()]
        yield np.stack(columns, axis=1)[start:stop]

    def close(self) -> None:
        """Close the decoder."""
        self._recording.close()


def _decode(
    recordings: Sequence[Recording], start: int, stop: int | None, channel: int | None, name: str
) -> tuple[NDArray[np.float32], int]:
    """Decode samples `start` to `stop`, one channel or the mean: (S,), and the end position.

    Raises:
        AudioError: A recording is damaged, or shorter than declared.
    """
    held = count_samples(recordings)
    end = held if stop is None else stop
    output = _Output(0 if end is None else max(0, end - start))
    levels = Levels()
    position = 0
    for recording in recordings:
        length, is_last = recording.num_samples, recording is recordings[-1]
        if stop is not None and position >= stop:
            break
        if length is None and not is_last:
            length = decode_count([recording])
        if length is not None and position + length <= start and not is_last:
            position += length
            continue
        first = max(0, start - position)
        last = None if stop is None else stop - position
        is_whole = last is None or (length is not None and last > length)
        done = first
        for block in recording.blocks(first, None if is_whole else last):
            wanted = block if last is None else block[: max(0, last - done)]
            mono = _mono(wanted, channel)
            levels.add(wanted, mono, is_mean=channel is None and wanted.shape[1] > 1)
            output.add(mono)
            done += len(wanted)
        expected = length if is_whole else last
        if held is not None and expected is not None and done < expected:
            raise AudioError(
                f"{name} has been cut short: its header promises {position + expected} samples, "
                f"but only {position + done} could be decoded; copy or convert it again"
            )
        position += done
    samples = output.samples()
    if len(samples):
        levels.note(name, is_whole=start == 0 and stop is None)
    return samples, position


class _Output:
    """Growing buffer of samples, preallocated to the expected length."""

    def __init__(self, num_samples: int) -> None:
        import numpy as np

        try:
            self._samples = np.empty(num_samples, np.float32)
        except MemoryError:  # a header may declare any length
            self._samples = np.empty(0, np.float32)
        self._num_done = 0
        self._further: list[NDArray[np.float32]] = []

    def add(self, mono: NDArray[np.float32]) -> None:
        """Append (S,)."""
        count = min(len(mono), len(self._samples) - self._num_done)
        self._samples[self._num_done : self._num_done + count] = mono[:count]
        self._num_done += count
        if count < len(mono):
            self._further.append(mono[count:])

    def samples(self) -> NDArray[np.float32]:
        """All samples."""
        import numpy as np

        done = self._samples[: self._num_done]
        return np.concatenate([done, *self._further]) if self._further else done


def _mono(decoded: NDArray[np.float32], channel: int | None) -> NDArray[np.float32]:
    """One channel of (S, channels), or their mean in float64 rounded once: (S,)."""
    import numpy as np

    if channel is None and decoded.shape[1] > 1:
        mean: NDArray[np.float32] = decoded.mean(axis=1, dtype=np.float64).astype(np.float32)
        return mean
    one: NDArray[np.float32] = decoded[:, channel or 0].copy()
    return one


QUALITY = "VHQ"
"""soxr quality with 28 bits of precision: its error is below the rounding of float32."""

LOWEST_RATE_HZ = 1000
"""Lowest plausible rate of speech; smaller numbers are kHz or seconds given by mistake."""


def resample(
    samples: NDArray[np.float32], source_rate: float, target_rate: float
) -> NDArray[np.float32]:
    """Band-limited, deterministic resampling of a waveform (S,).

    The result has `S * target_rate / source_rate` samples, rounded half up, and starts at the same
    instant; it is `samples` itself if the rates agree. The passband ends at about 0.91 of the lower
    Nyquist frequency, above which content is removed.

    Raises:
        AudioError: A rate is not a number of Hz of at least `LOWEST_RATE_HZ`.
    """
    import soxr

    source_hz, target_hz = checked_rate(source_rate), checked_rate(target_rate)
    if source_hz == target_hz:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, source_hz, target_hz, quality=QUALITY)
    return resampled


def checked_rate(rate: object) -> float:
    """Validate a sample rate and return it in Hz; AudioError if it is not plausible."""
    if isinstance(rate, numbers.Real):
        hertz = float(rate)
        if math.isfinite(hertz) and hertz >= LOWEST_RATE_HZ:
            return hertz
    raise AudioError(
        f"the sample rate is {rate!r}, expected a number of at least {LOWEST_RATE_HZ} in Hz: "
        "pass for example 16000"
    )
