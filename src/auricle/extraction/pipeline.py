"""Pipeline of a run: audio decoded ahead of the model, files written in a thread, and signals.

Processes that decode leave signals to the run, and end when it does.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from auricle.audio.notes import Tally, gathered
from auricle.corpus.reading import fingerprint, read_utterance
from auricle.corpus.utterance import Utterance
from auricle.errors import AudioError
from auricle.extraction.plan import Timed
from auricle.info import SAMPLE_RATE

Decoded: TypeAlias = list[tuple[Utterance, "NDArray[np.float32] | AudioError"]]
"""Audio of a batch; arrays, because tensors of other processes would take a file handle each."""

DECODER = "auricle-decoder"
"""Name of the thread that decodes."""

_Pairs: TypeAlias = Generator[tuple[Decoded, Tally], None, None]

PREFETCHED_BATCHES = 2
"""Batches that each decoding process holds ready."""


def decode_batch(batch: Sequence[Timed]) -> Decoded:
    """Decode the audio of a batch; an utterance that cannot be read comes with its error."""
    return [_decode(timed.utterance) for timed in batch]


@contextmanager
def decoding_ahead(
    batches: Sequence[Sequence[Timed]], num_workers: int
) -> Iterator[Iterator[Decoded]]:
    """Decode batches in order, ahead of the caller, while the context lasts.

    Its threads and processes end with it. Left to the garbage collector after an error, they would
    be joined wherever it happens to run, which may be the start of another thread: a deadlock.

    Args:
        batches: Utterances to decode.
        num_workers: Processes that decode; 0 for a thread, which costs no start.
    """
    decoded = (_by_processes if num_workers else _by_thread)(_Batches(batches), num_workers)
    with closing(decoded):
        yield (_said(*pair) for pair in decoded)


def _said(decoded: Decoded, notes: Tally) -> Decoded:
    notes.say()
    return decoded


class _Batches(Dataset[tuple[Decoded, Tally]]):
    """The audio of batches, and the remarks on it."""

    def __init__(self, batches: Sequence[Sequence[Timed]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Decoded, Tally]:
        with gathered() as notes:
            decoded = decode_batch(self.batches[index])
        return decoded, notes


def _by_processes(batches: _Batches, num_workers: int) -> _Pairs:
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


def _by_thread(batches: _Batches, _: int) -> _Pairs:
    with ThreadPoolExecutor(1, thread_name_prefix=DECODER) as pool:
        waiting: deque[Future[tuple[Decoded, Tally]]] = deque()
        for index in range(len(batches)):
            waiting.append(pool.submit(batches.__getitem__, index))
            if len(waiting) > PREFETCHED_BATCHES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _decode(utterance: Utterance) -> tuple[Utterance, NDArray[np.float32] | AudioError]:
    """An utterance with its fingerprint, and its audio."""
    try:
        # First the fingerprint: of a file that is replaced meanwhile, it is then the old one.
        utterance = dataclasses.replace(utterance, fingerprint=fingerprint(utterance))
        return utterance, read_utterance(utterance, sample_rate=SAMPLE_RATE).numpy()
    except AudioError as error:
        return utterance, error


def _unchanged(decoded: Any) -> Any:
    return decoded


def _begin_worker(_number: int) -> None:
    end_with_parent()


class BackgroundWriter:
    """A thread that writes files in order, at most one of them waiting."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="auricle-writer", daemon=True)

    def __enter__(self) -> BackgroundWriter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._stop()

    def put(self, write: Callable[[], None]) -> None:
        """Queue a write, once the one before the last is done."""
        self._check()
        self._queue.put(write)
        self._check()

    def settle(self) -> bool:
        """Finish queued writes; False if one of them has failed."""
        self._stop()
        return self._error is None

    def finish(self) -> None:
        """Finish queued writes, and raise what one of them has raised."""
        self._stop()
        self._check()

    def _stop(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        # After an error the rest is taken and dropped, so that no caller waits for ever.
        while (write := self._queue.get()) is not None:
            if self._error is None:
                try:
                    write()
                except BaseException as error:  # raised again in the caller's thread
                    self._error = error


@contextmanager
def shielded_from(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Keep signals from the processes that are started inside, for good.

    A terminal sends SIGINT to all processes of a command, and a scheduler SIGTERM. The run handles
    the signal, flushes its results and ends the others, which would each print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started later, it would let Ctrl-C through again (CPython until 3.12).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signals))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Let this process leave nothing running where the one that started it is killed."""
    threading.Thread(target=_end_with_parent, name="auricle-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
