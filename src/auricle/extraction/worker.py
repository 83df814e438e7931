"""Worker: one process that loads the encoder, encodes shards batch by batch and writes them."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

import torch
from torch import Tensor

from auricle.audio.notes import gathered, gathering
from auricle.corpus.utterance import Utterance
from auricle.errors import AudioError, AuricleError, ExtractionError
from auricle.extraction.pipeline import BackgroundWriter, Decoded, decode_batch, decoding_ahead
from auricle.extraction.plan import PlannedShard
from auricle.extraction.selection import Selection
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.store.segments import Result, Segments
from auricle.store.writer import StoreWriter

FLUSH_SECONDS = 30.0
"""Time after which results are flushed: with a batch and a write that is about a minute."""

FEW_SECONDS = 600.0
"""Audio for which decoding processes are not worth their start."""

MAX_WORKERS = 8
"""Decoding processes of a GPU; more of them wait for the disk."""


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

    @contextmanager
    def timing(self, stage: Literal["decoding", "encoding", "writing"]) -> Iterator[None]:
        """Add the time inside to a stage."""
        start = time.perf_counter()
        yield
        setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)

    @property
    def waiting(self) -> float:
        """Share of the time in which the model waited for audio or for writes; 0 before it ran."""
        total = self.decoding + self.encoding + self.writing
        return (self.decoding + self.writing) / total if total else 0.0

    @property
    def summary(self) -> str:
        """Bottleneck of the run, the share of each stage in its time, and that of waiting."""
        shares = {"decoding": self.decoding, "model": self.encoding, "writing": self.writing}
        total = sum(shares.values()) or 1.0
        bottleneck = max(shares, key=lambda name: shares[name])
        percents = ", ".join(f"{name} {100 * s / total:.0f} %" for name, s in shares.items())
        return (
            f"bottleneck: {bottleneck} (time: {percents}); the model waited "
            f"{100 * self.waiting:.1f} %"
        )


class LoadOn(Protocol):
    """Loads an encoder; `functools.partial(auricle.load, "tera")` is one."""

    def __call__(self, *, device: str) -> Encoder: ...


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An encoder that is on its device already."""

    encoder: Encoder

    def __call__(self, *, device: str) -> Encoder:
        return self.encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worker:
    """Encodes shards and writes them into a store; it can be pickled if `load` can.

    Attributes:
        load: Gives the encoder on a `device`.
        selection: The arrays that are kept.
        pad_short: Append zeros to audio shorter than the encoder's minimum; else it fails.
        writer: Writes shards into the store.
        num_workers: Processes that decode ahead; 0 for a thread, None for what suits the device
            and the amount of audio.
        flush_seconds: Time after which results of a shard that is not whole are flushed.
    """

    load: LoadOn
    selection: Selection
    pad_short: bool
    writer: StoreWriter
    num_workers: int | None
    flush_seconds: float = FLUSH_SECONDS

    @gathering
    def run(
        self,
        device: str,
        shards: Sequence[PlannedShard],
        *,
        advance: Callable[[float], None],
        fail: Callable[[Utterance, str], None],
    ) -> Stages:
        """Encode shards on a device and write them, in order.

        Audio is decoded ahead by other processes (or by a thread of this one), and shards are
        written by a thread, so that the model waits for neither unless they are slower than it.
        Batches that an earlier run has flushed are not encoded again.

        Args:
            device: Where the encoder runs, as torch says it.
            shards: Shards to encode.
            advance: Called with the seconds of audio of every batch that is done.
            fail: Called with each utterance that gives nothing and the reason; what it raises
                stops the run, and the shard is not written.

        Returns:
            Where the time went.

        Raises:
            AuricleError: The encoder cannot be loaded, a shard cannot be written, or a process
                that decodes has died; nothing of a later shard has been written then.
        """
        num_workers = self.num_workers
        if num_workers is None:
            num_workers = suitable_workers(device, sum(shard.seconds for shard in shards))
        run = _Run(self, self.load(device=device), advance, fail)
        flushed = [run.num_flushed(shard) for shard in shards]
        pairs = list(zip(shards, flushed, strict=True))
        batches = [batch for shard, count in pairs for batch in shard.batches[count:]]
        try:
            with decoding_ahead(batches, num_workers) as audio, BackgroundWriter() as writer:
                for shard, count in pairs:
                    run.encode_shard(shard, count, audio, writer)
                with run.stages.timing("writing"):
                    writer.finish()
        except RuntimeError as error:
            # The loader raises it wherever this thread is when the process dies.
            if not str(error).startswith("DataLoader worker"):
                raise
            raise ExtractionError(
                "a process that decodes audio has died (out of memory, or killed); run the same "
                "command again to go on, with a smaller num_workers= (--workers) if it was memory"
            ) from error
        return run.stages


class Engine(Protocol):
    """Runs shards: in this process, in several of this machine, or on many machines."""

    def __call__(
        self,
        worker: Worker,
        shards: Sequence[PlannedShard],
        *,
        advance: Callable[[float], None],
        fail: Callable[[Utterance, str], None],
    ) -> Stages: ...


class _Run:
    """Shards through one encoder."""

    def __init__(
        self,
        worker: Worker,
        encoder: Encoder,
        advance: Callable[[float], None],
        fail: Callable[[Utterance, str], None],
    ) -> None:
        self.stages = Stages()
        self._worker = worker
        self._encoder = encoder
        self._advance = advance
        self._fail = fail
        self._segments = Segments(worker.writer.folder, worker.writer.meta)
        self._begun = self._segments.keys()
        self._flushed_at = time.monotonic()

    def num_flushed(self, shard: PlannedShard) -> int:
        """Number of batches of a shard that an earlier run has flushed."""
        if shard.key not in self._begun:
            return 0
        return self._segments.num_batches(shard.key, shard.digest)

    def encode_shard(
        self,
        shard: PlannedShard,
        num_flushed: int,
        audio: Iterator[Decoded],
        writer: BackgroundWriter,
    ) -> None:
        """Encode a shard's batches but for those that are flushed, and queue it to be written."""
        results = self._flushed_results(shard, num_flushed) if num_flushed else []
        timing = self.stages.timing
        try:
            for batch in shard.batches[num_flushed:]:
                with timing("decoding"):
                    decoded = next(audio)
                with timing("encoding"):
                    # One step: a signal finds the batch in the list or not, never half of it.
                    results.append(self._encode(decoded))
                self._advance(sum(timed.seconds for timed in batch))
                if time.monotonic() - self._flushed_at >= self._worker.flush_seconds:
                    with timing("writing"):
                        waiting = results[num_flushed:]
                        writer.put(functools.partial(self._flush, shard, num_flushed, waiting))
                    num_flushed = len(results)
                    self._flushed_at = time.monotonic()
            with timing("writing"):
                writer.put(lambda: self._write(shard, results))
            self._flushed_at = time.monotonic()
        except BaseException:
            # Whole batches go to disk, whatever ends the run: Ctrl-C, a scheduler, an error.
            if writer.settle():
                self._flush(shard, num_flushed, results[num_flushed:])
            raise

    def _flushed_results(self, shard: PlannedShard, num_flushed: int) -> list[list[Result]]:
        """Read the batches that an earlier run has flushed; encode those that are damaged."""
        planned = {timed.utterance.id: timed.utterance for timed in shard.utterances}
        results = self._segments.read(shard.key, shard.digest, planned)[:num_flushed]
        for utterance, outcome in (result for batch in results for result in batch):
            if isinstance(outcome, str):
                self._fail(utterance, outcome)
        damaged = shard.batches[len(results) : num_flushed]
        return [*results, *(self._encode(decode_batch(batch)) for batch in damaged)]

    def _flush(
        self, shard: PlannedShard, first_batch: int, batches: Sequence[Sequence[Result]]
    ) -> None:
        if batches:
            self._segments.write(shard.key, shard.digest, first_batch, batches)

    def _write(self, shard: PlannedShard, results: Sequence[Sequence[Result]]) -> None:
        encoded = [
            (utterance, outcome)
            for batch in results
            for utterance, outcome in batch
            if not isinstance(outcome, str)
        ]
        self._worker.writer.write(shard.key, encoded)
        self._segments.remove([shard.key])

    def _encode(self, decoded: Decoded) -> list[Result]:
        """Encode a decoded batch; an utterance's fault stays its own.

        Utterances come back with the length that was decoded, whatever a list said.
        """
        results: list[Result] = []
        usable: list[tuple[Utterance, Tensor]] = []
        min_samples = self._encoder.min_samples
        for utterance, samples in decoded:
            if isinstance(samples, AudioError):
                results.append(self._failed(utterance, str(samples)))
            elif len(samples) < min_samples and not self._worker.pad_short:
                reason = (
                    f"{len(samples)} samples at {SAMPLE_RATE} Hz, but the model needs at least "
                    f"{min_samples}; leave it out or pass pad_short=True (--short pad)"
                )
                results.append(self._failed(utterance, reason))
            else:
                usable.append((utterance, torch.from_numpy(samples)))
        return [*self._encode_waveforms(usable), *results] if usable else results

    def _encode_waveforms(self, usable: Sequence[tuple[Utterance, Tensor]]) -> list[Result]:
        worker = self._worker
        waveforms = [waveform for _, waveform in usable]
        try:
            with gathered():  # the remarks on them were made where they were decoded
                outputs = worker.selection.run(self._encoder, waveforms, pad_short=worker.pad_short)
        except (AuricleError, RuntimeError, MemoryError) as error:
            if not isinstance(error, AuricleError) and not is_out_of_memory(error):
                raise
            if len(usable) > 1:
                return [result for one in usable for result in self._encode_waveforms([one])]
            ((utterance, waveform),) = usable
            reason = str(error)
            if not isinstance(error, AuricleError):
                seconds = len(waveform) / SAMPLE_RATE
                reason = f"out of memory with {seconds:.0f} s of audio; cut the file"
            return [self._failed(utterance, reason)]
        return [
            (dataclasses.replace(utterance, seconds=len(waveform) / SAMPLE_RATE), arrays)
            for (utterance, waveform), arrays in zip(usable, outputs, strict=True)
        ]

    def _failed(self, utterance: Utterance, reason: str) -> Result:
        reason = " ".join(reason.split())
        self._fail(utterance, reason)
        return utterance, reason


def is_out_of_memory(error: Exception) -> bool:
    """True if memory, of the machine or of a GPU, did not suffice."""
    # The CPU's allocator raises a bare RuntimeError that only its text tells apart.
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        "DefaultCPUAllocator" in str(error)
    )


def suitable_workers(device: str, seconds: float) -> int:
    """Processes that decode `seconds` of audio for a device; 0 for a thread.

    A model on the CPU uses all cores itself, and a thread decodes faster than it reads.
    """
    if torch.device(device).type == "cpu" or seconds < FEW_SECONDS:
        return 0
    cpus_of_device = (os.cpu_count() or 1) // max(1, torch.cuda.device_count())
    return max(1, min(MAX_WORKERS, cpus_of_device - 1))
