"""Local engine: shards in this process, or in a process for each of several devices."""

from __future__ import annotations

import dataclasses
import queue
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue as ProcessQueue
from typing import TypeAlias

import torch
from torch import multiprocessing

from auricle.corpus.utterance import Utterance
from auricle.errors import AuricleError, ExtractionError
from auricle.extraction.pipeline import end_with_parent, shielded_from
from auricle.extraction.plan import PlannedShard
from auricle.extraction.worker import Stages, Worker

POLL_SECONDS = 1.0
"""Interval at which processes that have gone silent are looked at."""

EXIT_TERMINATED = 143  # 128 + SIGTERM

PATIENCE_SECONDS = 60.0
"""Time that a process has to flush what it has encoded, once it is to end."""


def all_devices() -> tuple[str, ...]:
    """All GPUs of this machine, or the CPU where there are none."""
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) or ("cpu",)


@dataclasses.dataclass(frozen=True)
class LocalEngine:
    """Runs shards on devices of this machine, round-robin."""

    devices: tuple[str, ...]

    def __call__(
        self,
        worker: Worker,
        shards: Sequence[PlannedShard],
        *,
        advance: Callable[[float], None],
        fail: Callable[[Utterance, str], None],
    ) -> Stages:
        """Run shards.

        Raises:
            AuricleError: What a process raises, or that one has died.
        """
        if not shards:
            return Stages()
        if len(self.devices) == 1:
            return worker.run(self.devices[0], shards, advance=advance, fail=fail)
        return _run_processes(self.devices, worker, shards, advance, fail)


@dataclasses.dataclass(frozen=True)
class _Ended:
    """A process has come to its end."""

    number: int
    stages: Stages
    error: AuricleError | None = None


Message: TypeAlias = "float | tuple[Utterance, str] | _Ended"
"""Seconds that are done, an utterance that gave nothing and the reason, or the end."""


def _run_processes(
    devices: Sequence[str],
    worker: Worker,
    shards: Sequence[PlannedShard],
    advance: Callable[[float], None],
    fail: Callable[[Utterance, str], None],
) -> Stages:
    context = multiprocessing.get_context("spawn")
    messages: ProcessQueue[Message] = context.Queue()
    processes = {
        number: context.Process(
            target=_run_worker,
            args=(number, worker, device, shards[number :: len(devices)], messages),
        )
        for number, device in enumerate(devices)
    }
    stages = Stages()
    with shielded_from([signal.SIGINT]):
        for process in processes.values():
            process.start()
    try:
        while processes:
            message = _next_message(messages, processes, devices)
            if isinstance(message, _Ended):
                if message.error is not None:
                    raise message.error
                processes.pop(message.number).join()
                stages += message.stages
            elif isinstance(message, tuple):
                fail(*message)
            else:
                advance(message)
    finally:
        for process in processes.values():
            process.terminate()  # it flushes what is encoded first
        for process in processes.values():
            process.join(PATIENCE_SECONDS)
            process.kill()
            process.join()
    return stages


def _next_message(
    messages: ProcessQueue[Message],
    processes: Mapping[int, BaseProcess],
    devices: Sequence[str],
) -> Message:
    while True:
        dead = {number: p.exitcode for number, p in processes.items() if p.exitcode is not None}
        try:
            # What a process said before it ended is there by now.
            return messages.get(timeout=POLL_SECONDS)
        except queue.Empty:
            for number, status in dead.items():
                raise ExtractionError(
                    f"the process of {devices[number]} has died (exit status {status}; -9 is often "
                    "a lack of memory); run the same command again to go on, with a smaller "
                    "batch_seconds= (--batch-seconds) if it was memory"
                ) from None


def _end_in_order(*_: object) -> None:
    # A second one, of the run after that of a scheduler, must not cut the flush short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(EXIT_TERMINATED)


def _run_worker(
    number: int,
    worker: Worker,
    device: str,
    shards: Sequence[PlannedShard],
    messages: ProcessQueue[Message],
) -> None:
    """Run shards in a process of its own."""
    end_with_parent()
    # The worker flushes whole batches on its way out; no process reads its messages any more.
    signal.signal(signal.SIGTERM, _end_in_order)
    if device == "cpu":
        torch.set_num_threads(1)

    def fail(utterance: Utterance, reason: str) -> None:
        messages.put((utterance, reason))

    try:
        stages = worker.run(device, shards, advance=messages.put, fail=fail)
        ended = _Ended(number, stages)
    except AuricleError as error:
        ended = _Ended(number, Stages(), error)
    except SystemExit:
        messages.cancel_join_thread()
        raise
    messages.put(ended)
