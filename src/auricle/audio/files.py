"""Audio files: one waveform, mono, float32, at the rate that was asked for."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import Tensor

from auricle.audio.containers import missing_bytes
from auricle.audio.finite import non_finite_reason
from auricle.audio.resampling import checked_rate, resample
from auricle.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"}
    | {".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist"}
)
"""Lower-case suffixes by which `list_audio_files` tells audio; `read_audio` looks at contents."""

BLOCK_VALUES = 1 << 20
"""Samples of all channels decoded at once (4 MB), so that many channels do not multiply memory."""

OGG_LEAD_SECONDS = 10.0
"""How far before a part decoding begins in an Ogg file, more than a page lasts: libsndfile lands
elsewhere when it seeks into the last page, and Opus needs about a second to settle."""

UNKNOWN_LENGTH = 1 << 60
"""libsndfile reports about 2^63 frames where the header leaves the length open."""


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


def list_audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Audio files below a folder at any depth, by suffix (`AUDIO_SUFFIXES`, any case), sorted.

    Names that begin with a dot are left out, and links to folders are not followed. The list is
    empty where there are none.

    Raises:
        AudioError: The folder does not exist, is not a folder or cannot be listed.
    """
    found = []

    def refuse(error: OSError) -> None:
        raise AudioError(f"cannot list {folder}: {error.strerror}; pass a folder") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and PurePath(name).suffix.lower() in AUDIO_SUFFIXES
        ]
    return sorted(found, key=lambda path: path.parts)  # the order of paths, found once for each


def read_header(path: str | os.PathLike[str]) -> AudioHeader:
    """Length, rate and channels of a file, without decoding it.

    Raises:
        AudioError: The file is missing, is no audio, holds no samples or has been cut short.
    """
    with open_audio_bytes(path) as stream:
        return stream_header(stream, str(path))


def stream_header(stream: BinaryIO, name: str) -> AudioHeader:
    """Length, rate and channels of a file's bytes; `name` stands for them in messages.

    Raises:
        AudioError: As `read_header`.
    """
    with _opened(stream, name) as sound:
        return _header(sound)


def read_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int = 16_000,
    channel: int | None = None,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    overshoot_seconds: float = 0.0,
) -> Tensor:
    """Decode a file, or a part of it, into one waveform.

    WAV, FLAC, OGG (Vorbis, Opus), MP3 and whatever else libsndfile knows, at any rate and with any
    number of channels. Integer samples are scaled to [-1, 1); float samples are taken as they are.
    Memory grows with the mono waveform, not with the number of channels.

    Args:
        path: The file; its contents, not its name, decide the format.
        sample_rate: Rate of the result in Hz; another rate in the file is resampled to it.
        channel: Index of the channel to take, from 0; None for the mean of all channels.
        start_seconds: Where to begin.
        duration_seconds: How much to read; None for all up to the end. Both ends are rounded to
            the file's nearest sample.
        overshoot_seconds: By how much the part may end behind the file's end, where it is then
            cut off: durations in lists are rounded.

    Returns:
        Tensor (S,), float32, on the CPU. A part is resampled alone, without its surroundings.

    Raises:
        AudioError: The file is missing, unreadable, no audio, empty, cut short or damaged, or holds
            NaN or infinity; there is no such channel; the part is not within the file.
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
    with _opened(stream, name) as sound:
        header = _header(sound)
        if channel is not None and channel not in range(header.num_channels):
            raise AudioError(
                f"{name} has {header.num_channels} channel(s), but channel={channel!r} was asked "
                f"for: pass 0 to {header.num_channels - 1}, or leave the channel out for their mean"
            )
        start, num_samples = _span(name, header, start_seconds, duration_seconds, overshoot_seconds)
        mono = _decode(name, sound, start, num_samples, channel)
    if reason := non_finite_reason(torch.from_numpy(mono)):
        raise AudioError(f"{name}: {reason}")
    try:
        resampled = resample(mono, header.sample_rate, sample_rate)
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error
    if len(resampled) == 0:
        raise AudioError(
            f"{name}: {len(mono)} sample(s) at {header.sample_rate} Hz are less than one sample at "
            f"{sample_rate} Hz: leave the file out"
        )
    return torch.from_numpy(resampled)


@contextmanager
def _opened(stream: BinaryIO, name: str) -> Iterator[Any]:
    """A `soundfile.SoundFile` of a file that looks whole; AudioError for every other file."""
    import soundfile

    missing = missing_bytes(stream)
    if missing:
        raise AudioError(
            f"{name} has been cut short: its header promises {missing} bytes more than it "
            "holds; copy or convert it again"
        )
    try:
        sound = _sound_class()(stream)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(
            f"cannot read {name} as audio: {_cause(error)}; expected WAV, FLAC, OGG, MP3 or "
            "another format of libsndfile: check its contents or convert it"
        ) from error
    with sound:
        if sound.frames == 0:
            raise AudioError(f"{name} holds no samples, only a header: leave it out")
        yield sound


@functools.cache
def _sound_class() -> Any:
    """`soundfile.SoundFile` that reads straight on; made once, for soundfile is imported late."""
    import soundfile

    class Sequential(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
        """Reads straight on: soundfile by itself seeks after every block of a seekable file,
        which is slow in FLAC and fails where its length is left open."""

        def seekable(self) -> bool:
            return False

        @property
        def can_seek(self) -> bool:
            return bool(super().seekable())

    return Sequential


def open_audio_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """The file as a stream of bytes, once it is known to be a regular file with contents.

    Raises:
        AudioError: It is missing, empty, no regular file, or raw samples.
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


def _header(sound: Any) -> AudioHeader:
    known = sound.frames < UNKNOWN_LENGTH
    return AudioHeader(
        num_samples=sound.frames if known else None,
        sample_rate=sound.samplerate,
        num_channels=sound.channels,
    )


def _span(
    name: str,
    header: AudioHeader,
    start_seconds: float,
    duration_seconds: float | None,
    overshoot_seconds: float,
) -> tuple[int, int | None]:
    """First sample and number of samples to decode; the number is None for "up to the end"."""
    rate, available = header.sample_rate, header.num_samples
    length = "unknown length" if available is None else f"{available / rate:g} s long"
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise AudioError(f"{name}: start_seconds is {start_seconds!r}, expected 0 or more seconds")
    start = math.floor(start_seconds * rate + 0.5)
    if available is not None and start >= available:
        raise AudioError(
            f"{name}: start_seconds={start_seconds:g} is past the end, the file is {length}"
        )
    if duration_seconds is None:
        return start, None if available is None else available - start
    num_samples = 0
    if math.isfinite(duration_seconds):
        # Both ends are rounded, not the duration, so that parts which touch also tile the file.
        num_samples = math.floor((start_seconds + duration_seconds) * rate + 0.5) - start
    if num_samples < 1:
        raise AudioError(
            f"{name}: duration_seconds is {duration_seconds!r}, expected at least one sample, or "
            "None for all up to the end"
        )
    if available is not None and start + num_samples > available:
        if start + num_samples <= available + overshoot_seconds * rate:
            return start, available - start
        raise AudioError(
            f"{name}: the part ends at {start_seconds + duration_seconds:g} s, but the file is "
            f"{length}: leave the end, or the duration, out to read up to the end of the file"
        )
    return start, num_samples


def _decode(
    name: str, sound: Any, start: int, num_samples: int | None, channel: int | None
) -> NDArray[np.float32]:
    """Decode `num_samples` from `start` on, one channel or the mean, block by block: (S,)."""
    import numpy as np
    import soundfile

    block = max(1, BLOCK_VALUES // sound.channels)
    parts: list[NDArray[np.float32]] = []
    num_done = 0
    try:
        _go_to(sound, start, block)
        while num_samples is None or num_done < num_samples:
            size = block if num_samples is None else min(block, num_samples - num_done)
            decoded = sound.read(size, dtype="float32", always_2d=True)
            if len(decoded) == 0:
                break
            parts.append(_mono(decoded, channel))
            num_done += len(decoded)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(
            f"{name} is damaged or has been cut short: decoding stopped after {num_done} samples "
            f"({_cause(error)}); copy or convert it again"
        ) from error
    if num_done == 0 or (num_samples is not None and num_done < num_samples):
        raise AudioError(
            f"{name} has been cut short: its header promises {start + (num_samples or 1)} samples, "
            f"but only {start + num_done} could be decoded; copy or convert it again"
        )
    return np.concatenate(parts)


def _go_to(sound: Any, start: int, block: int) -> None:
    """Move to sample `start` so that what follows is what decoding from the beginning gives."""
    landing = start if sound.can_seek else 0
    if sound.format == "OGG":
        landing = max(0, landing - math.ceil(OGG_LEAD_SECONDS * sound.samplerate))
    if landing:
        sound.seek(landing)
    while landing < start:
        num_skipped = len(sound.read(min(block, start - landing), dtype="float32"))
        if num_skipped == 0:
            break
        landing += num_skipped


def _mono(decoded: NDArray[np.float32], channel: int | None) -> NDArray[np.float32]:
    """One channel of (S, channels), or their mean taken in float64 and rounded once: (S,)."""
    import numpy as np

    if channel is None and decoded.shape[1] > 1:
        mean: NDArray[np.float32] = decoded.mean(axis=1, dtype=np.float64).astype(np.float32)
        return mean
    one: NDArray[np.float32] = decoded[:, channel or 0].copy()
    return one


def _cause(error: Exception) -> str:
    """libsndfile's own words, without the repetition of the path."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".") or type(error).__name__
