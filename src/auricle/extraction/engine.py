"""Shards through the model: decoded ahead by other processes, written behind by another thread."""

from __future__ import annotations

import dataclasses
import queue
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
from auricle.errors import AudioError, AuricleError, ExtractionError
from auricle.extraction.plan import ShardPlan, Timed
from auricle.extraction.processes import end_with_parent, shielded_from_interrupts
from auricle.extraction.reading import read_utterance
from auricle.extraction.selection import Selection
from auricle.extraction.utterances import Utterance
from auricle.models.base import SAMPLE_RATE, Encoder

Arrays: TypeAlias = dict[str, Tensor]
"""What is kept of an utterance, by name."""

Decoded: TypeAlias = list[tuple[Utterance, "NDArray[np.float32] | AudioError"]]
"""The audio of a batch, as it comes from other processes: tensors would take a file handle each."""

PREFETCHED_BATCHES = 2
"""Batches that each decoding process holds ready."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """An utterance that gave nothing, and why."""

    utterance: Utterance
    reason: str


@dataclasses.dataclass(kw_only=True)
class EncodedShard:
    """What is to be written of a shard."""

    plan: ShardPlan
    items: list[tuple[Utterance, Arrays]] = dataclasses.field(default_factory=list)


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
        """What bound the run, in a line."""
        shares = {"decoding": self.decoding, "the model": self.encoding, "writing": self.writing}
        total = sum(shares.values()) or 1.0
        bound = max(shares, key=lambda name: shares[name])
        percents = ", ".join(f"{name} {100 * s / total:.0f} %" for name, s in shares.items())
        return f"bound by {bound} (time: {percents})"


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

    def encode(self, decoded: Decoded) -> Iterator[tuple[Utterance, Arrays]]:
        """Encode what was decoded as one batch; an utterance's fault stays its own."""
        read: list[tuple[Utterance, Tensor]] = []
        min_samples = self.encoder.min_samples
        for utterance, samples in decoded:
            if isinstance(samples, AudioError):
                self._fail(utterance, str(samples))
            elif len(samples) < min_samples and self.short == "error":
                reason = (
                    f"{len(samples)} samples at {SAMPLE_RATE} Hz, but the model needs at least "
                    f"{min_samples}; leave it out or pass --short pad"
                )
                self._fail(utterance, reason)
            else:
                read.append((utterance, torch.from_numpy(samples)))
        yield from self._encode(read)

    def _encode(
        self, read: Sequence[tuple[Utterance, Tensor]]
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
                    yield from self._encode([pair])
                return
            utterance, waveform = read[0]
            reason = str(error)
            if not isinstance(error, AuricleError):
                seconds = len(waveform) / SAMPLE_RATE
                reason = f"out of memory with {seconds:.0f} s of audio; cut the file"
            self._fail(utterance, reason)
            return
        yield from zip((utterance for utterance, _ in read), outputs, strict=True)

    def _fail(self, utterance: Utterance, reason: str) -> None:
        self.fail(Failure(utterance=utterance, reason=" ".join(reason.split())))


def run_shards(
    shards: Sequence[ShardPlan],
    encoding: Encoding,
    write: Callable[[EncodedShard], None],
    *,
    num_workers: int = 1,
    advance: Callable[[float], None] = lambda seconds: None,
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

    Returns:
        Where the time went.

    Raises:
        AuricleError: What `write` raises, or that a process that decodes has died; nothing of a
            later shard has been written then.
    """
    try:
        return _run_shards(shards, encoding, write, num_workers, advance)
    except RuntimeError as error:
        # The loader raises it wherever this thread is when the process dies, not only in `next`.
        if not str(error).startswith("DataLoader worker"):
            raise
        raise ExtractionError(
            "a process that decodes audio has died (out of memory, or killed); run the same "
            "command again to go on, with fewer --workers if it was memory"
        ) from error


def _run_shards(
    shards: Sequence[ShardPlan],
    encoding: Encoding,
    write: Callable[[EncodedShard], None],
    num_workers: int,
    advance: Callable[[float], None],
) -> Stages:
    stages = Stages()
    audio = _decoded(shards, num_workers)
    with _Writer(write) as writer:
        for shard in shards:
            done = EncodedShard(plan=shard)
            for batch in shard.batches:
                start = time.perf_counter()
                decoded = next(audio)
                encoding_start = time.perf_counter()
                done.items += encoding.encode(decoded)
                stages.decoding += encoding_start - start
                stages.encoding += time.perf_counter() - encoding_start
                advance(sum(timed.seconds for timed in batch))
            start = time.perf_counter()
            writer.put(done)
            stages.writing += time.perf_counter() - start
        start = time.perf_counter()
        writer.finish()
        stages.writing += time.perf_counter() - start
    return stages


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
            decoded = [(timed.utterance, _read(timed.utterance)) for timed in self.batches[index]]
        return decoded, notes


def _read(utterance: Utterance) -> NDArray[np.float32] | AudioError:
    try:
        return read_utterance(utterance, sample_rate=SAMPLE_RATE).numpy()
    except AudioError as error:
        return error


def _decoded(shards: Sequence[ShardPlan], num_workers: int) -> Iterator[Decoded]:
    """The audio of all batches, in order, decoded ahead."""
    for decoded, notes in _decoded_with_notes(shards, num_workers):
        notes.say()
        yield decoded


def _decoded_with_notes(
    shards: Sequence[ShardPlan], num_workers: int
) -> Iterator[tuple[Decoded, Tally]]:
    batches = _Batches([batch for shard in shards for batch in shard.batches])
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
        with shielded_from_interrupts():
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
    """A thread that writes shards in order, at most one of them waiting."""

    def __init__(self, write: Callable[[EncodedShard], None]) -> None:
        self._write = write
        self._queue: queue.Queue[EncodedShard | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="auricle-writer", daemon=True)

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._error = self._error or RuntimeError("stopped")
            self._stop()

    def put(self, shard: EncodedShard) -> None:
        """Hand a shard over, once the one before the last is written."""
        self._check()
        self._queue.put(shard)
        self._check()

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
        while (shard := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._write(shard)
                except BaseException as error:  # raised again in the caller's thread
                    self._error = error
