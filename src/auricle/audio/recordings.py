"""Recordings of a file: decoders that start at any sample, one per stream or concatenated file."""

from __future__ import annotations

import codecs
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from auricle.audio import ffmpeg, mpeg, mpeg_frames, ogg
from auricle.audio.containers import file_bytes, find_section, flac_starts
from auricle.audio.headers import Piece, magic_at, spliced
from auricle.audio.notes import gathered, note
from auricle.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK_VALUES = 1 << 20
"""Samples decoded at once over all channels (4 MB), which bounds memory for many channels."""

VORBIS_LEAD_SECONDS = 10.0
"""Lead-in decoded before a span of Ogg Vorbis, as libsndfile may seek one page too late."""

UNKNOWN_LENGTH = 1 << 60
"""Threshold of unknown lengths, for which libsndfile reports about 2^63 frames."""

FLAC_COUNT = slice(21, 26)
"""Bytes of a FLAC file whose last 36 bits are the number of samples: RFC 9639, section 8.2."""

MPEG_SUFFIXES = (".mp3", ".mp2", ".mpga")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioHeader:
    """Length, sample rate and channels declared by a file.

    `num_samples` is per channel at the file's own `sample_rate` in Hz; None if the length is not
    declared.
    """

    num_samples: int | None
    sample_rate: int
    num_channels: int

    @property
    def seconds(self) -> float | None:
        """Length in seconds, None if it is not declared."""
        return None if self.num_samples is None else self.num_samples / self.sample_rate


class Recording(Protocol):
    """One recording of a file, as written by one encoder.

    Attributes:
        sample_rate: In Hz.
        num_channels: Channels of each block.
        num_samples: Samples per channel, None if only decoding determines them.
        is_count: Whether more samples may follow after `num_samples`.
    """

    sample_rate: int
    num_channels: int
    num_samples: int | None
    is_count: bool

    def blocks(self, start: int, stop: int | None) -> Iterator[NDArray[np.float32]]:
        """Decode samples `start` to `stop`, or to the end, in blocks (S, channels).

        Raises:
            AudioError: The file is damaged.
        """

    def close(self) -> None:
        """Close the decoder, not the file."""


def open_recordings(stream: BinaryIO, name: str, *, is_thorough: bool) -> list[Recording]:
    """Open the recordings of a file, at least one.

    Args:
        stream: The file, which stays open.
        name: Name of the file in messages.
        is_thorough: Whether to search every page of an Ogg file, and all of a FLAC file, for
            further recordings; otherwise the first and last page.

    Raises:
        AudioError: The file is not audio, has no samples, is truncated or damaged, or needs FFmpeg,
            which is not installed.
    """
    end, start = file_bytes(stream), mpeg_frames.audio_start(stream)
    stream.seek(start)
    head = stream.read(ffmpeg.HEAD_BYTES)
    if kind := ffmpeg.kind_of(head):
        return [ffmpeg.ForeignRecording(stream, name, kind)]
    magic = magic_at(head)
    try:
        if magic == "OGG":
            return _ogg_recordings(stream, start, end, name, is_thorough=is_thorough)
        if magic == "FLAC":
            return _flac_recordings(stream, start, end, name, is_thorough=is_thorough)
        if not magic and (mpeg_frames.is_mpeg(stream, start) or _is_bare_mpeg(name, head)):
            links = mpeg.find_links(stream, start, end, name)
            return [MpegRecording(stream, link, name) for link in links]
        return _sections(stream, start, end, name)
    except NotDecodedError as error:
        first = None if magic else mpeg_frames.find_first_frame(stream, start)
        if first is not None:
            links = mpeg.find_links(stream, first, end, name)
            text = f"{name}: {first - start} bytes before its first frame are no audio: left out"
            note("mpeg start", text)
            return [MpegRecording(stream, link, name) for link in links]
        if magic != "OGG":
            raise AudioError(str(error)) from error.__cause__
        if not ffmpeg.is_installed():
            raise AudioError(f"{error}; FFmpeg reads more kinds: {ffmpeg.INSTALL}") from error
        return [ffmpeg.ForeignRecording(stream, name, "Ogg")]  # Speex, or FLAC in Ogg


def check_channel(recordings: Sequence[Recording], channel: int | None, name: str) -> None:
    """Raise AudioError if a recording has no such channel."""
    num_channels = min(recording.num_channels for recording in recordings)
    if channel is not None and channel not in range(num_channels):
        raise AudioError(
            f"{name} has {num_channels} channel(s), but channel={channel!r} was asked for: pass 0 "
            f"to {num_channels - 1}, or leave the channel out for their mean"
        )


def count_samples(recordings: Sequence[Recording]) -> int | None:
    """Samples of all recordings, None if one of them is unknown."""
    lengths = [recording.num_samples for recording in recordings]
    known = [length for length in lengths if length is not None]
    return sum(known) if len(known) == len(lengths) else None


def decode_count(recordings: Sequence[Recording]) -> int:
    """Samples of all recordings, counted by decoding them."""
    with gathered():  # notes are logged when the samples are decoded again
        return sum(len(block) for recording in recordings for block in recording.blocks(0, None))


def _is_bare_mpeg(name: str, head: bytes) -> bool:
    return name.lower().endswith(MPEG_SUFFIXES) and (not any(head) or head[0] == 0xFF)


def _sections(stream: BinaryIO, start: int, end: int, name: str) -> list[Recording]:
    recordings: list[Recording] = []
    while start < end:
        section = find_section(stream, start, end, name)
        recordings.append(SoundRecording(stream, section.pieces, name))
        if section.remark:
            note(re.sub(r"\d+", "", section.remark), f"{name}: {section.remark}")
        start = section.end
    return recordings


def _flac_recordings(
    stream: BinaryIO, start: int, end: int, name: str, *, is_thorough: bool
) -> list[Recording]:
    end = mpeg_frames.without_end_tags(stream, start, end)
    starts = [start, *(flac_starts(stream, start + 1, end) if is_thorough else ()), end]
    return [
        SoundRecording(stream, [(first, last)], name) for first, last in itertools.pairwise(starts)
    ]


def _ogg_recordings(
    stream: BinaryIO, start: int, end: int, name: str, *, is_thorough: bool
) -> list[Recording]:
    if not is_thorough and not ogg.is_chained(stream, start, end):
        return [SoundRecording(stream, [(start, end)], name)]
    links = ogg.find_links(stream, start, end, name)
    for link in links:
        if not link.has_last_page:
            note(
                "ogg end",
                f"{name}: no page says that it is the last one, so that it may have been cut short",
            )
        if len(link.codecs) > 1:
            note(
                "ogg streams", f"{name} holds {len(link.codecs)} streams side by side: one is read"
            )
    if len(links) == 1:
        return [SoundRecording(stream, links[0].pieces(stream), name, links[0].tail_samples)]
    return [_ogg_link(stream, link, name) for link in links]


def _ogg_link(stream: BinaryIO, link: ogg.OggLink, name: str) -> Recording:
    """Recording of a link of a chain, by FFmpeg if libsndfile does not read its codec."""
    try:
        return SoundRecording(stream, link.pieces(stream), name, link.tail_samples)
    except NotDecodedError:
        if not ffmpeg.is_installed():
            raise
        return ffmpeg.ForeignRecording(spliced(stream, [(link.start, link.end)]), name, "Ogg")


class SoundRecording:
    """Recording decoded by libsndfile.

    Args:
        stream: The file.
        pieces: Bytes and spans of the file that libsndfile reads.
        name: Name of the file in messages.
        tail_samples: Samples of the last two pages of Ogg, None if there are no others.
    """

    def __init__(
        self,
        stream: BinaryIO,
        pieces: Sequence[Piece],
        name: str,
        tail_samples: int | None = None,
    ) -> None:
        self._stream = stream
        self._pieces = pieces
        self._name = name
        self._tail_samples = tail_samples
        sound = _open_sound(stream, pieces, name)
        if sound.frames == 0:
            raise AudioError(
                f"{name} holds no samples, only a header: leave it out, or copy it again where it "
                "should hold some"
            )
        known = sound.frames < UNKNOWN_LENGTH
        self.num_samples: int | None = sound.frames if known else None
        self.sample_rate: int = sound.samplerate
        self.num_channels: int = sound.channels
        self.is_count = known and sound.format == "FLAC"
        self._unused: Any = sound

    def blocks(self, start: int, stop: int | None) -> Iterator[NDArray[np.float32]]:
        """Decode as `Recording.blocks`; a FLAC file is read beyond the count of its header."""
        if self.is_count and stop is None:
            yield from self._all_of_flac(start)
            return
        sound = self._unused or _open_sound(self._stream, self._pieces, self._name)
        self._unused = None
        with sound:
            landing = self._landing(sound, start)
            yield from _read_sound(sound, landing, start, stop, self._name)

    def close(self) -> None:
        """Close the decoder, not the file."""
        if self._unused is not None:
            self._unused.close()

    def _landing(self, sound: Any, start: int) -> int:
        """Sample to seek to, so that the samples after it equal those of a full decode."""
        if not sound.can_seek or self.num_samples is None or sound.subtype.startswith("DWVW"):
            return 0  # libsndfile claims to seek in DWVW, and fails
        if sound.format != "OGG":
            return start
        if sound.subtype == "OPUS" or self._tail_samples is None:
            return 0  # the state of an Opus decoder depends on all earlier packets
        lead = math.ceil(VORBIS_LEAD_SECONDS * self.sample_rate)
        return max(0, min(start - lead, self.num_samples - self._tail_samples))

    def _all_of_flac(self, start: int) -> Iterator[NDArray[np.float32]]:
        """Decode to the end of the file, with a header that declares no length."""
        first = self._pieces[0]
        assert isinstance(first, tuple)
        self._stream.seek(first[0])
        header = bytearray(self._stream.read(FLAC_COUNT.stop))
        header[FLAC_COUNT.start] &= 0xF0
        header[FLAC_COUNT.start + 1 :] = bytes(4)
        pieces: list[Piece] = [bytes(header), (first[0] + len(header), first[1])]
        with _open_sound(self._stream, pieces, self._name) as sound:
            yield from _read_sound(sound, 0, start, self.num_samples, self._name)
            num_further = 0
            counts = f"{self._name}: its header counts {self.num_samples} samples"
            try:
                for decoded in _read_sound(sound, 0, 0, None, self._name):  # continues
                    num_further += len(decoded)
                    yield decoded
            except AudioError:
                note("flac rest", f"{counts}, and what follows cannot be decoded: it is left out")
            if num_further:
                note("flac", f"{counts}, but {num_further} more follow: all are read")


class MpegRecording:
    """Recording of MPEG audio frames, decoded to the end of the file."""

    is_count = False

    def __init__(self, stream: BinaryIO, link: mpeg.MpegLink, name: str) -> None:
        self._stream = stream
        self._link = link
        self._name = name
        self.sample_rate = link.frame.sample_rate
        self.num_channels = link.frame.num_channels
        self.num_samples: int | None = link.num_samples

    def blocks(self, start: int, stop: int | None) -> Iterator[NDArray[np.float32]]:
        """Decode as `Recording.blocks`."""
        pieces, num_before = self._link.pieces(self._stream, start)
        end = (self._link.num_samples if stop is None else stop) - start + num_before
        with _open_sound(self._stream, pieces, self._name) as sound:
            yield from _read_sound(sound, 0, num_before, end, self._name)

    def close(self) -> None:
        """Do nothing: no decoder stays open."""


class NotDecodedError(AudioError):
    """libsndfile cannot read the file, but FFmpeg may."""


def _open_sound(stream: BinaryIO, pieces: Sequence[Piece], name: str) -> Any:
    import soundfile

    try:
        return _sound_class()(spliced(stream, pieces))
    except (soundfile.SoundFileError, RuntimeError) as error:
        advice = "check its contents or convert it"
        if _is_text(stream):
            advice = (
                "it is text; check its contents (lists of audio files end in .csv or .tsv, and "
                "begin with a line of names, or in .jsonl, .json, .scp)"
            )
        raise NotDecodedError(
            f"cannot read {name} as audio: {_cause(error)}; expected WAV, FLAC, OGG, MP3 or "
            f"another format of libsndfile: {advice}"
        ) from error


def _is_text(stream: BinaryIO) -> bool:
    """True if the file starts with printable UTF-8."""
    stream.seek(0)
    try:  # incremental, as the last character may be incomplete
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(stream.read(ffmpeg.HEAD_BYTES))
    except UnicodeDecodeError:
        return False
    return bool(text) and all(one.isprintable() or one.isspace() for one in text)


def _read_sound(
    sound: Any, position: int, start: int, stop: int | None, name: str
) -> Iterator[NDArray[np.float32]]:
    """Decode from `position`, and yield the blocks from `start` to `stop`."""
    import soundfile

    block = max(1, BLOCK_VALUES // sound.channels)
    try:
        if position:
            sound.seek(position)
        while stop is None or position < stop:
            limit = start if position < start else stop
            size = block if limit is None else min(block, limit - position)
            decoded = sound.read(size, dtype="float32", always_2d=True)
            if len(decoded) == 0:
                return
            if position >= start:
                yield decoded
            position += len(decoded)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(
            f"{name} is damaged or has been cut short: decoding stopped after {position} samples "
            f"({_cause(error)}); copy or convert it again"
        ) from error


@functools.cache
def _sound_class() -> Any:
    """`soundfile.SoundFile` without seeking; cached, as soundfile is imported lazily."""
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


def _cause(error: Exception) -> str:
    """Message of libsndfile without the path."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".") or type(error).__name__
