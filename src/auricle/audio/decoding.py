"""Bytes of audio files: one waveform, mono, float32, at the rate that was asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor

from auricle.audio.finite import non_finite_reason
from auricle.audio.levels import Levels
from auricle.audio.notes import gathered
from auricle.audio.recordings import Recording, ResampledRecording, open_recordings
from auricle.audio.resampling import checked_rate, resample
from auricle.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioHeader:
    """What a file says of itself.

    `num_samples` counts per channel at the file's own `sample_rate` in Hz; it is None where the
    header leaves the length open.
    """

    num_samples: int | None
    sample_rate: int
    num_channels: int

    @property
    def seconds(self) -> float | None:
        """Length in seconds, None where the header leaves it open."""
        return None if self.num_samples is None else self.num_samples / self.sample_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What is wanted of a file, in seconds; without a duration all up to the end.

    It may end up to `overshoot` after the file, where it is then cut off.
    """

    start: float = 0.0
    duration: float | None = None
    overshoot: float = 0.0

    def span(self, name: str, rate: int) -> tuple[int, int | None]:
        """First sample, and the one after the last, both rounded to the nearest.

        Raises:
            AudioError: It is no part of any file.
        """
        if not (math.isfinite(self.start) and self.start >= 0):
            raise AudioError(f"{name}: start_seconds is {self.start!r}, expected 0 or more seconds")
        start = math.floor(self.start * rate + 0.5)
        if self.duration is None:
            return start, None
        stop = start
        if math.isfinite(self.duration) and self.duration > 0:
            # Rounded as an instant, so that a part ends where the one after it begins.
            stop = math.floor((self.start + self.duration) * rate + 0.5)
        if stop <= start:
            raise AudioError(
                f"{name}: duration_seconds is {self.duration!r}, expected at least one sample, or "
                "None for all up to the end"
            )
        return start, stop

    def within(self, name: str, rate: int, held: int) -> tuple[int, int | None]:
        """The span within a file of `held` samples.

        Raises:
            AudioError: It begins or ends after that.
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
    """Length, rate and channels of a file's bytes; `name` stands for them in messages.

    What follows after what a FLAC file counts, and a second recording in an Ogg file that goes by
    the number of the first, is found by `decode_audio` alone.

    Raises:
        AudioError: As `read_header`.
    """
    with gathered(), _opened(stream, name, is_thorough=False) as recordings:
        return AudioHeader(
            num_samples=_count(recordings),
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
    """`read_audio` of a file's bytes, wherever they lie; `name` stands for them in messages.

    Raises:
        AudioError: As `read_audio`.
    """
    checked_rate(sample_rate)
    part = Part(start=start_seconds, duration=duration_seconds, overshoot=overshoot_seconds)
    with _opened(stream, name, is_thorough=True) as recordings:
        rate = recordings[0].sample_rate
        _check_channel(recordings, channel, name)
        start, stop = part.span(name, rate)
        held = _count(recordings)
        if held is not None and (start >= held or (stop or 0) > held):
            if any(recording.is_count for recording in recordings):
                held = _decoded_count(recordings)
            start, stop = part.within(name, rate, held)
        mono, reached = _decode(recordings, start, stop, channel, name)
        if held is None:
            reached = reached if len(mono) else _decoded_count(recordings)
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
    """The recordings of a file, all at the rate of the first."""
    opened = open_recordings(stream, name, is_thorough=is_thorough)
    rate = opened[0].sample_rate
    try:
        yield [one if one.sample_rate == rate else ResampledRecording(one, rate) for one in opened]
    finally:
        for recording in opened:
            recording.close()


def _check_channel(recordings: Sequence[Recording], channel: int | None, name: str) -> None:
    num_channels = min(recording.num_channels for recording in recordings)
    if channel is not None and channel not in range(num_channels):
        raise AudioError(
            f"{name} has {num_channels} channel(s), but channel={channel!r} was asked for: pass 0 "
            f"to {num_channels - 1}, or leave the channel out for their mean"
        )


def _count(recordings: Sequence[Recording]) -> int | None:
    """Samples of all recordings, None where one of them does not say."""
    lengths = [recording.num_samples for recording in recordings]
    known = [length for length in lengths if length is not None]
    return sum(known) if len(known) == len(lengths) else None


def _decoded_count(recordings: Sequence[Recording]) -> int:
    with gathered():  # what is to be said will be, when they are decoded for their samples
        return sum(len(block) for recording in recordings for block in recording.blocks(0, None))


def _decode(
    recordings: Sequence[Recording], start: int, stop: int | None, channel: int | None, name: str
) -> tuple[NDArray[np.float32], int]:
    """Decode samples from `start` to `stop`, one channel or the mean: (S,), and where it ended.

    Raises:
        AudioError: A recording is damaged, or holds less than it says.
    """
    held = _count(recordings)
    end = held if stop is None else stop
    output = _Output(0 if end is None else max(0, end - start))
    levels = Levels()
    position = 0
    for recording in recordings:
        length, is_last = recording.num_samples, recording is recordings[-1]
        if stop is not None and position >= stop:
            break
        if length is None and not is_last:
            length = _decoded_count([recording])
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
    """Samples, one block after the other, in memory for as many as are expected."""

    def __init__(self, num_samples: int) -> None:
        import numpy as np

        try:
            self._samples = np.empty(num_samples, np.float32)
        except MemoryError:  # a header may make up any number
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
        """All of them."""
        import numpy as np

        done = self._samples[: self._num_done]
        return np.concatenate([done, *self._further]) if self._further else done


def _mono(decoded: NDArray[np.float32], channel: int | None) -> NDArray[np.float32]:
    """One channel of (S, channels), or their mean taken in float64 and rounded once: (S,)."""
    import numpy as np

    if channel is None and decoded.shape[1] > 1:
        mean: NDArray[np.float32] = decoded.mean(axis=1, dtype=np.float64).astype(np.float32)
        return mean
    one: NDArray[np.float32] = decoded[:, channel or 0].copy()
    return one
