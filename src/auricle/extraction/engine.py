"""Shards through the model: decoded ahead by other processes, written behind by another thread.

What is encoded of a shard that is not whole yet is flushed from time to time, and when a run stops.
"""

from __future__ import annotations

import dataclasses
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from auricle.audio.notes import Tally, gathered
from auricle.corpus.reading import fingerprint, read_utterance
from auricle.corpus.utterance import Utterance
from auricle.errors import AudioError, AuricleError, ExtractionError
from auricle.extraction.plan import ShardPlan, Timed
from auricle.extraction.processes import end_with_parent, shielded_from
from auricle.extraction.selection import Selection
from auricle.geometry import SAMPLE_RATE
from auricle.models.base import Encoder

Arrays: TypeAlias = dict[str, Tensor]
"""What is kept of an utterance, by name."""

Decoded: TypeAlias = list[tuple[Utterance, "NDArray[np.float32] | AudioError"]]
"""The audio of a batch, as it comes from other processes: tensors would take a file handle each."""

PREFETCHED_BATCHES = 2
"""Batches that each decoding process holds ready."""

FLUSH_SECONDS = 30.0
"""Time after which what is encoded is flushed: with a batch and a write that is about a minute."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """An utterance that gave nothing, and why."""

    utterance: Utterance
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedBatch:
    """Arrays of the utterances of a batch, in its order, and those that gave none."""

    items: Sequence[tuple[Utterance, Arrays]] = ()
    failures: Sequence[Failure] = ()


@dataclasses.dataclass(kw_only=True)
class EncodedShard:
    """What is to be written of a shard.

    Attributes:
        plan: What it is to hold.
        batches: What its first batches gave.
        num_flushed: How many of these lie in segments on disk.
    """

    plan: ShardPlan
    batches: list[EncodedBatch] = dataclasses.field(default_factory=list)
    num_flushed: int = 0

    @property
    def items(self) -> list[tuple[Utterance, Arrays]]:
        """What its utterances gave, in the order of the shard."""
        return [item for batch in self.batches for item in batch.items]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flushing:
    """Means of a run to keep what is encoded of shards that are not whole.

    Attributes:
        seconds: Time after which batches are flushed.
        flush: Writes the batches of a shard that are not flushed yet, its only argument.
        count: Gives how many batches of a shard have been flushed by an earlier run.
        read: Gives these batches; fewer where some cannot be read any more.
    """

    seconds: float
    flush: Callable[[EncodedShard], None]
    count: Callable[[ShardPlan], int]
    read: Callable[[ShardPlan], list[EncodedBatch]]


@dataclasses.dataclass(kw_only=True)
class Stages:
    """Seconds that the model's thread spent on each stage.

    Attributes:
        decoding: Waiting for audio.
        encoding: In the model, and in taking what is kept from its output.
        writing: Waiting for a shard before this one to be written.
    """

    decoding: float = 0.0
    encoding: float = 0.0
    writing: float = 0.0

    def __iadd__(self, other: Stages) -> Stages:
        self.decoding += other.decoding
        self.encoding += other.encoding
        self.writing += other.writing
        return self

    @property
    def summary(self) -> str:
        """Bottleneck of the run, and the share of each stage in its time."""
        shares = {"decoding": self.decoding, "model": self.encoding, "writing": self.writing}
        total = sum(shares.values()) or 1.0
        bottleneck = max(shares, key=lambda name: shares[name])
        percents = ", ".join(f"{name} {100 * s / total:.0f} %" for name, s in shares.items())
        return f"bottleneck: {bottleneck} (time: {percents})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding:
    """How utterances become arrays.

    Attributes:
        encoder: On the device where it is to run.
        selection: What is kept.
        short: What to do with audio shorter than the encoder's minimum.
        fail: Called for each utterance that gives nothing; what it raises ends the run.
    """

    encoder: Encoder
    selection: Selection
    short: Literal["error", "pad"]
    fail: Callable[[Failure], None]

    def encode(self, decoded: Decoded) -> EncodedBatch:
        """Encode what was decoded as one batch; an utterance's fault stays its own.

        Utterances come back with the length that was decoded, whatever a list said.
        """
        read: list[tuple[Utterance, Tensor]] = []
        failures: list[Failure] = []
        min_samples = self.encoder.min_samples
        for utterance, samples in decoded:
            if isinstance(samples, AudioError):
                failures.append(self._failed(utterance, str(samples)))
            elif len(samples) < min_samples and self.short == "error":
                reason = (
                    f"{len(samples)} samples at {SAMPLE_RATE} Hz, but the model needs at least "
                    f"{min_samples}; leave it out or pass --short pad"
                )
                failures.append(self._failed(utterance, reason))
            else:
                read.append((utterance, torch.from_numpy(samples)))
        items = list(self._encode(read, failures))
        return EncodedBatch(items=items, failures=failures)

    def _encode(
        self, read: Sequence[tuple[Utterance, Tensor]], failures: list[Failure]
    ) -> Iterator[tuple[Utterance, Arrays]]:
        if not read:
            return
        try:
            waveforms = [waveform for _, waveform in read]
            with gathered():  # all has been said of them where they were decoded
                outputs = self.selection.run(self.encoder, waveforms, short=self.short)
        except (AuricleError, RuntimeError, MemoryError) as error:
            if not isinstance(error, AuricleError) and not is_out_of_memory(error):
                raise
            if len(read) > 1:
                for pair in read:
                    yield from self._encode([pair], failures)
                return
            utterance, waveform = read[0]
            reason = str(error)
            if not isinstance(error, AuricleError):
                seconds = len(waveform) / SAMPLE_RATE
                reason = f"out of memory with {seconds:.0f} s of audio; cut the file"
            failures.append(self._failed(utterance, reason))
            return
        for (utterance, waveform), arrays in zip(read, outputs, strict=True):
            yield dataclasses.replace(utterance, seconds=len(waveform) / SAMPLE_RATE), arrays

    def _failed(self, utterance: Utterance, reason: str) -> Failure:
        failure = Failure(utterance=utterance, reason=" ".join(reason.split()))
        self.fail(failure)
        return failure


def run_shards(
    shards: Sequence[ShardPlan],
    encoding: Encoding,
    write: Callable[[EncodedShard], None],
    *,
    num_workers: int = 1,
    advance: Callable[[float], None] = lambda seconds: None,
    flushing: Flushing | None = None,
) -> Stages:
    """Encode shards one after the other and write each when it is complete.

    Audio is decoded ahead by `num_workers` processes (0: by a thread of this one), shards are
    written behind by a thread, in their order, so that the model waits for neither unless they are
    slower than it.

    Args:
        shards: What to encode, in order.
        encoding: How.
        write: Writes a shard; called in another thread, for one shard at a time.
        num_workers: Processes that decode; 0 for a thread, which costs no start.
        advance: Called with the seconds of audio of every batch that is done.
        flushing: How batches are kept until their shard is whole; None to lose them if the run
            stops. Batches that an earlier run has flushed are not encoded again.

    Returns:
        Where the time went.

    Raises:
        AuricleError: What `write` raises, or that a process that decodes has died; nothing of a
            later shard has been written then.
    """
    try:
        return _Run(encoding, write, advance, flushing).all(shards, num_workers)
    except RuntimeError as error:
        # The loader raises it wherever this thread is when the process dies, not only in `next`.
        if not str(error).startswith("DataLoader worker"):
            raise
        raise ExtractionError(
            "a process that decodes audio has died (out of memory, or killed); run the same "
            "command again to go on, with fewer --workers if it was memory"
        ) from error


class _Run:
    """The loop over shards and batches."""

    def __init__(
        self,
        encoding: Encoding,
        write: Callable[[EncodedShard], None],
        advance: Callable[[float], None],
        flushing: Flushing | None,
    ) -> None:
        self._encoding = encoding
        self._write = write
        self._advance = advance
        self._flushing = flushing
        self._stages = Stages()
        self._flushed_at = time.monotonic()

    def all(self, shards: Sequence[ShardPlan], num_workers: int) -> Stages:
        """Encode and write shards, in order, and say where the time went."""
        flushing = self._flushing
        counts = [flushing.count(shard) if flushing else 0 for shard in shards]
        batches = [b for s, count in zip(shards, counts, strict=True) for b in s.batches[count:]]
        audio = _decoded(batches, num_workers)
        with _Writer() as writer:
            for shard, count in zip(shards, counts, strict=True):
                self._one(shard, count, audio, writer)
            start = time.perf_counter()
            writer.finish()
            self._stages.writing += time.perf_counter() - start
        return self._stages

    def _one(
        self, shard: ShardPlan, num_flushed: int, audio: Iterator[Decoded], writer: _Writer
    ) -> None:
        done = EncodedShard(plan=shard)
        if num_flushed and self._flushing is not None:
            done.batches += self._again(shard, num_flushed)
            done.num_flushed = num_flushed
        try:
            for batch in shard.batches[num_flushed:]:
                start = time.perf_counter()
                decoded = next(audio)
                encoding_start = time.perf_counter()
                # One step: a signal finds the batch in the shard or not, never half of it.
                done.batches.append(self._encoding.encode(decoded))
                self._stages.decoding += encoding_start - start
                self._stages.encoding += time.perf_counter() - encoding_start
                self._advance(sum(timed.seconds for timed in batch))
                self._flush_in_time(done, writer)
            start = time.perf_counter()
            writer.put(lambda: self._write(done))
            self._flushed_at = time.monotonic()
            self._stages.writing += time.perf_counter() - start
        except BaseException:
            # What is whole goes to disk, whatever ends the run: Ctrl-C, a scheduler, an error.
            if self._flushing is not None and writer.settle():
                self._flushing.flush(done)
            raise

    def _again(self, shard: ShardPlan, num_flushed: int) -> list[EncodedBatch]:
        """Batches that an earlier run has flushed; those that are damaged are encoded."""
        assert self._flushing is not None
        batches = self._flushing.read(shard)[:num_flushed]
        lost = shard.batches[len(batches) : num_flushed]
        for batch in batches:
            for failure in batch.failures:
                self._encoding.fail(failure)
        return [*batches, *(self._encoding.encode(_decoded_batch(batch)) for batch in lost)]

    def _flush_in_time(self, done: EncodedShard, writer: _Writer) -> None:
        flushing = self._flushing
        if flushing is None or time.monotonic() - self._flushed_at < flushing.seconds:
            return
        start = time.perf_counter()
        now = dataclasses.replace(done, batches=list(done.batches))
        writer.put(lambda: flushing.flush(now))
        done.num_flushed = len(done.batches)
        self._flushed_at = time.monotonic()
        self._stages.writing += time.perf_counter() - start


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory, of the machine or of a GPU, did not suffice."""
    # The CPU's allocator raises a bare RuntimeError that only its text tells apart.
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        "DefaultCPUAllocator" in str(error)
    )


class _Batches(Dataset[tuple[Decoded, Tally]]):
    """The audio of batches, and what is to be said of it."""

    def __init__(self, batches: Sequence[Sequence[Timed]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Decoded, Tally]:
        with gathered() as notes:
            decoded = _decoded_batch(self.batches[index])
        return decoded, notes


def _decoded_batch(batch: Sequence[Timed]) -> Decoded:
    return [_read(timed.utterance) for timed in batch]


def _read(utterance: Utterance) -> tuple[Utterance, NDArray[np.float32] | AudioError]:
    """An utterance that knows its fingerprint, and its audio."""
    try:
        # First the fingerprint: of a file that is replaced meanwhile, it is then the old one.
        utterance = dataclasses.replace(utterance, fingerprint=fingerprint(utterance))
        return utterance, read_utterance(utterance, sample_rate=SAMPLE_RATE).numpy()
    except AudioError as error:
        return utterance, error


def _decoded(planned: Sequence[Sequence[Timed]], num_workers: int) -> Iterator[Decoded]:
    """The audio of batches, in order, decoded ahead."""
    for decoded, notes in _decoded_with_notes(planned, num_workers):
        notes.say()
        yield decoded


def _decoded_with_notes(
    planned: Sequence[Sequence[Timed]], num_workers: int
) -> Iterator[tuple[Decoded, Tally]]:
    batches = _Batches(planned)
    if num_workers:
        loader = DataLoader(
            batches,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=num_workers,
            prefetch_factor=PREFETCHED_BATCHES,
            worker_init_fn=_begin_worker,
            # Forked, a process would share the locks that the model's threads hold at that moment.
            multiprocessing_context="spawn",
        )
        with shielded_from([signal.SIGINT, signal.SIGTERM]):
            iterator = iter(loader)
        yield from iterator
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: deque[Future[tuple[Decoded, Tally]]] = deque()
        for index in range(len(batches)):
            waiting.append(pool.submit(batches.__getitem__, index))
            if len(waiting) > PREFETCHED_BATCHES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _unchanged(decoded: Any) -> Any:
    return decoded


def _begin_worker(_number: int) -> None:
    end_with_parent()


class _Writer:
    """A thread that writes shards and segments in order, at most one of them waiting."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="auricle-writer", daemon=True)

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._stop()

    def put(self, write: Callable[[], None]) -> None:
        """Hand over what writes one of them, once the one before the last is written."""
        self._check()
        self._queue.put(write)
        self._check()

    def settle(self) -> bool:
        """Write what waits, whether or not more could be written; whether all of it was."""
        self._stop()
        return self._error is None

    def finish(self) -> None:
        """Wait until all is written."""
        self._stop()
        self._check()

    def _stop(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        # After an error the rest is taken and dropped, so that nobody waits for ever.
        while (write := self._queue.get()) is not None:
            if self._error is None:
                try:
                    write()
                except BaseException as error:  # raised again in the caller's thread
                    self._error = error
