"""Audio of utterances in any container: decoding, lengths by headers, fingerprints."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import logging
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from torch import Tensor

from auricle.audio.files import decode_audio, open_audio_bytes, stream_header
from auricle.audio.headers import spliced
from auricle.audio.notes import gathered
from auricle.audio.recordings import AudioHeader
from auricle.corpus.datasets import row_audio, row_mtime_ns
from auricle.corpus.folders import _no_archive, audio_members
from auricle.corpus.utterance import Fingerprint, Utterance
from auricle.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


logger = logging.getLogger(__name__)

OVERSHOOT_SECONDS = 0.01
"""Overshoot up to which a part that ends after its file is cut there: lists round to hundredths."""

LISTED_TOLERANCE_SECONDS = 0.1
"""Tolerance of a length that a list states: lists round."""

READ_BYTES = 1 << 20

MAX_DIGESTS = 1 << 16
"""Digests of files that a process keeps: a recording of many utterances is read once for them."""


def read_utterance(utterance: Utterance, *, sample_rate: int) -> Tensor:
    """Decode an utterance into one waveform; of a part of a file, no more is decoded.

    Both ends of a part are rounded to samples of the file's own rate, and it is resampled alone,
    without what surrounds it. It may end `OVERSHOOT_SECONDS` after the file's end, not more.

    Args:
        utterance: What to read.
        sample_rate: Rate of the result in Hz.

    Returns:
        Tensor (S,), float32, on the CPU, mono.

    Raises:
        AudioError: It cannot be read; the message begins with the id and names the source.
        MissingExtraError: Its container needs a package that is not installed.
    """
    try:
        return decode_utterance(utterance, sample_rate=sample_rate)
    except AudioError as error:
        raise AudioError(f"{utterance.id}: {error}") from error


def decode_utterance(
    utterance: Utterance, *, sample_rate: int, start: float = 0.0, seconds: float | None = None
) -> Tensor:
    """Decode an utterance, or the part of it from `start` on; errors name the source alone.

    Args:
        utterance: What to decode.
        sample_rate: Rate of the result in Hz.
        start: Start of the part within the utterance, in seconds.
        seconds: Length of the part; None for all up to the utterance's end.

    Raises:
        AudioError: It cannot be read.
        MissingExtraError: Its container needs a package that is not installed.
    """
    if seconds is None and utterance.seconds is not None:
        seconds = utterance.seconds - start
    with _opened(utterance) as (stream, name):
        return decode_audio(
            stream,
            name,
            sample_rate=sample_rate,
            channel=utterance.channel,
            start_seconds=utterance.start + start,
            duration_seconds=seconds,
            overshoot_seconds=OVERSHOOT_SECONDS,
        )


def seconds_by_header(utterance: Utterance) -> float | None:
    """Length of an utterance, as stated or by its file's header; None where that leaves it open.

    Raises:
        AudioError: It cannot be read.
        MissingExtraError: Its container needs a package that is not installed.
    """
    if utterance.seconds is not None:
        return utterance.seconds
    with _opened(utterance) as (stream, name):
        seconds = stream_header(stream, name).seconds
    return None if seconds is None else max(0.0, seconds - utterance.start)


def count_samples(utterance: Utterance, *, sample_rate: int) -> int:
    """Length of an utterance in samples at a rate: as stated, or by its file's header.

    The file is decoded where the header leaves the length open.

    Raises:
        AudioError: It cannot be read.
        MissingExtraError: Its container needs a package that is not installed.
    """
    if utterance.seconds is not None:
        return round(utterance.seconds * sample_rate)
    with _opened(utterance) as (stream, name):
        header = stream_header(stream, name)
    if header.num_samples is None:
        return len(decode_utterance(utterance, sample_rate=sample_rate))
    num_samples = header.num_samples * sample_rate // header.sample_rate
    return max(0, num_samples - round(utterance.start * sample_rate))


def fingerprint(utterance: Utterance) -> Fingerprint:
    """The identity of an utterance's audio as it is now; all bytes of its file are read.

    Raises:
        AudioError: It cannot be read.
        MissingExtraError: Its container needs a package that is not installed.
    """
    num_bytes, mtime_ns = source_stat(utterance)
    audio = dataclasses.replace(utterance, id="", start=0.0, seconds=None, channel=None)
    digest_of = _kept_digest if utterance.container in ("file", "tar") else _digest
    num_bytes, sha256 = digest_of(audio, num_bytes, mtime_ns)
    return Fingerprint(
        num_bytes=num_bytes, mtime_ns=mtime_ns, sha256=sha256, part_seconds=utterance.seconds
    )


def audio_digest(utterances: Sequence[Utterance]) -> str:
    """Digest of the contents of all audio files of utterances, whatever their names.

    Raises:
        AudioError: A file cannot be read.
    """
    from tqdm import tqdm

    digests: dict[str, str] = {}
    for one in tqdm(utterances, desc="audio", unit="file", disable=None, leave=False):
        if one.origin not in digests:
            bare = dataclasses.replace(one, labels={}, segments=())
            digests[one.origin] = fingerprint(bare).sha256
    text = "".join(digests[one.origin] for one in utterances)
    return hashlib.sha256(text.encode()).hexdigest()


def source_stat(utterance: Utterance) -> tuple[int | None, int | None]:
    """Size in bytes and modification time in nanoseconds of what holds an utterance, unread.

    None where that is not there or has none: only a file of its own has its size there, and a
    stream has no time.
    """
    if utterance.container == "stream":
        return None, None
    if utterance.container == "dataset":
        return None, row_mtime_ns(utterance.source, utterance.member)
    try:
        status = Path(utterance.source).stat()
    except (OSError, ValueError):
        return None, None
    return status.st_size if utterance.container == "file" else None, status.st_mtime_ns


def _digest(audio: Utterance, _num_bytes: int | None, _mtime_ns: int | None) -> tuple[int, str]:
    """Size and sha256 of the file that holds audio; a file that changes is another argument."""
    digest, num_bytes = hashlib.sha256(), 0
    with _opened(audio) as (stream, _):
        while chunk := stream.read(READ_BYTES):
            digest.update(chunk)
            num_bytes += len(chunk)
    return num_bytes, digest.hexdigest()


_kept_digest = functools.lru_cache(maxsize=MAX_DIGESTS)(_digest)


def utterance_seconds(
    utterances: Sequence[Utterance],
    num_threads: int,
    known_seconds: Mapping[str, float] | None = None,
    measured: Callable[[int, int], None] = lambda num_done, num_all: None,
) -> list[float | AudioError]:
    """Lengths of utterances: as stated by them, else by `known_seconds`, else by their headers.

    Only a header that leaves the length open, or by which an utterance begins after the end, makes
    the whole file be decoded. Lengths by headers serve planning: a few files hold more than
    they state. Utterances that cannot be read give the error.

    Args:
        utterances: What to measure.
        num_threads: Headers read at once.
        known_seconds: By id, `Listing.known_seconds`: good for planning, not to the sample.
        measured: Called with how many headers have been read, of how many.
    """
    known = known_seconds or {}
    lengths: list[float | AudioError | None] = [
        known.get(utterance.id) if utterance.seconds is None else utterance.seconds
        for utterance in utterances
    ]
    missing = [place for place, length in enumerate(lengths) if length is None]
    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        found = pool.map(_measure, (utterances[place] for place in missing))
        for num_done, (place, length) in enumerate(zip(missing, found, strict=True), start=1):
            lengths[place] = length
            measured(num_done, len(missing))
    return [length for length in lengths if length is not None]


class ListedLengths:
    """Comparison of the lengths that lists state of whole files with those decoded."""

    def __init__(self) -> None:
        self._stated: Mapping[str, float] = {}
        self._num_compared = self._num_wrong = 0
        self._example = ""

    def add(self, stated: Mapping[str, float]) -> None:
        """Take over what lists state, by id, in seconds."""
        self._stated = {**self._stated, **stated}

    def compare(self, name: str, decoded: float) -> None:
        """Count an utterance of which so many seconds were decoded."""
        if name not in self._stated:
            return
        self._num_compared += 1
        if abs(self._stated[name] - decoded) > LISTED_TOLERANCE_SECONDS:
            self._num_wrong += 1
            stated = f"{name} has {decoded:g} s, listed as {self._stated[name]:g} s"
            self._example = self._example or stated

    def report(self) -> None:
        """Log how many disagree, if some do."""
        if self._num_wrong:
            logger.warning(
                "%d of %d listed durations disagree with the files, such as: %s; the whole files "
                "were encoded, and the index holds their own lengths",
                self._num_wrong,
                self._num_compared,
                self._example,
            )


def _measure(utterance: Utterance) -> float | AudioError:
    try:
        with _opened(utterance) as (stream, name), gathered():  # decoding says it again
            header = stream_header(stream, name)
            seconds = header.seconds
            if seconds is None or seconds <= utterance.start:
                seconds = _decoded_seconds(stream, name, header)
    except AudioError as error:
        return AudioError(f"{utterance.id}: {error}")
    if seconds <= utterance.start:
        return AudioError(
            f"{utterance.id}: {name} is {seconds:g} s long, but the utterance begins at "
            f"{utterance.start:g} s"
        )
    return seconds - utterance.start


def _decoded_seconds(stream: BinaryIO, name: str, header: AudioHeader) -> float:
    waveform = decode_audio(stream, name, sample_rate=header.sample_rate)
    return len(waveform) / header.sample_rate


@contextmanager
def _opened(utterance: Utterance) -> Iterator[tuple[BinaryIO, str]]:
    """The bytes of the file that an utterance lies in, and what to call it."""
    if utterance.container == "file":
        with open_audio_bytes(utterance.source) as stream:
            yield stream, utterance.source
    elif utterance.container == "stream":
        if not utterance.spooled:
            raise AudioError(
                f"{utterance.origin} has not come with its stream: go on with --streaming (in "
                "Python streaming=True); where that says the same, the data set has been changed"
            )
        with open_audio_bytes(utterance.spooled) as stream:
            yield stream, utterance.origin
    elif utterance.container == "tar":
        name = utterance.origin
        offset, num_bytes = _indexes.place(utterance.source, utterance.member)
        with ExitStack() as opened:
            try:
                archive = opened.enter_context(Path(utterance.source).open("rb"))
            except OSError as error:
                raise AudioError(f"cannot open {name}: {error.strerror}; check the path") from error
            yield spliced(archive, [(offset, offset + num_bytes)]), name
    else:
        contents, path = row_audio(utterance.source, utterance.member)
        name = utterance.origin
        if contents is None:
            with open_audio_bytes(path) as stream:
                yield stream, f"{path} of {name}"
        else:
            yield io.BytesIO(contents), name


MAX_CACHED_MEMBERS = 4_000_000
"""Members whose places a process remembers, 24 bytes each: some 10,000 hours."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Index:
    """Places of the members of one archive, sorted by the hashes of their names."""

    hashes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]


class ArchiveIndexes:
    """Places of members of the archives read last; each archive's headers are read once.

    Beyond `max_members` the archives that were used longest ago are forgotten. Threads may share
    it.
    """

    def __init__(self, max_members: int = MAX_CACHED_MEMBERS) -> None:
        self._max_members = max_members
        self._lock = threading.Lock()
        self._indexes: OrderedDict[tuple[str, int, int], _Index] = OrderedDict()

    @property
    def num_members(self) -> int:
        """Members whose places are remembered now."""
        return sum(len(index.hashes) for index in self._indexes.values())

    def place(self, path: str, member: str) -> tuple[int, int]:
        """Offset and length of a member's contents, in bytes.

        Raises:
            AudioError: The archive cannot be read, or has no such member.
        """
        try:
            status = Path(path).stat()
        except OSError as error:
            raise AudioError(f"cannot open {path}: {error.strerror}; check the path") from error
        key = (path, status.st_mtime_ns, status.st_size)
        with self._lock:
            index = self._indexes.get(key)
            if index is None:
                index = self._indexes[key] = _read_index(path)
                while len(self._indexes) > 1 and self.num_members > self._max_members:
                    self._indexes.popitem(last=False)
            self._indexes.move_to_end(key)
        wanted = hash(member)
        position = int(index.hashes.searchsorted(wanted))
        if position == len(index.hashes) or index.hashes[position] != wanted:
            raise AudioError(f"{path} has no readable member {member!r}: has it been replaced?")
        return int(index.offsets[position]), int(index.sizes[position])


def _read_index(path: str) -> _Index:
    import numpy as np

    members = []
    try:
        for member in audio_members(path):
            if member.reason is None:
                members.append(member)  # noqa: PERF401 - kept where the archive has been cut
    except tarfile.TarError as error:
        if not members:
            raise AudioError(_no_archive(path, error)) from error
    table = np.array([(hash(m.name), m.offset, m.num_bytes) for m in members], np.int64)
    table = table.reshape(-1, 3)
    table = table[np.argsort(table[:, 0], kind="stable")]
    if len(np.unique(table[:, 0])) < len(table):
        raise AudioError(f"{path} has two members of one name: pack it again")
    return _Index(*(np.ascontiguousarray(column) for column in table.T))


_indexes = ArchiveIndexes()
