"""Engines of an extraction: this process or one for each of several devices, and Ray.

Ray Data gives shards on many machines to actors that hold the encoder.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import queue
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue as ProcessQueue
from typing import Any, TypeAlias

import msgspec
import numpy as np
import torch
from torch import multiprocessing

from auricle.corpus.utterance import Utterance
from auricle.errors import AuricleError, ExtractionError
from auricle.extraction.pipeline import end_with_parent, shielded_from
from auricle.extraction.plan import PlannedShard
from auricle.extraction.worker import Loaded, Stages, Worker
from auricle.optional import optional

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


HALF_A_CPU = 0.5
"""Share of a machine's only CPU that an actor asks for; reading asks for the other half."""


class _Report(msgspec.Struct):
    """An actor's report on a shard: reasons by id, seconds of stages, the error that ended it."""

    index: int
    failures: dict[str, str]
    decoding: float = 0.0
    encoding: float = 0.0
    writing: float = 0.0
    error: str = ""


@dataclasses.dataclass(frozen=True)
class RayEngine:
    """Runs shards on the actors of a Ray cluster, each with one GPU, or with CPUs where none are.

    A shard whose actor or machine goes away is given to another one; it is written whole or not at
    all, so that it does not matter how far it had come.

    Attributes:
        address: Of the cluster, "auto" for the one that this machine belongs to; None to start
            one here.
        num_actors: How many; None for one a GPU, or one a CPU but one.
    """

    address: str | None = None
    num_actors: int | None = None

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
            ExtractionError: There is no such cluster, an actor cannot load the encoder or write a
                shard, or Ray gave up.
            MissingExtraError: Ray is not installed.
        """
        if not shards:
            return Stages()
        ray = import_ray()
        started = not ray.is_initialized()
        try:
            if started:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise ExtractionError(
                f"no Ray cluster answers at {self.address}: {error}; start one with `ray start`, "
                "or leave address= (--address) out to use this machine alone"
            ) from error
        try:
            with _quiet("ray.data"):
                return self._run(ray, worker, shards, advance, fail)
        except ray.exceptions.RayError as error:
            raise ExtractionError(
                f"Ray gave up: {' '.join(str(error).split())}; run the same command again to go on"
            ) from error
        finally:
            if started:
                ray.shutdown()

    def _run(
        self,
        ray: Any,
        worker: Worker,
        shards: Sequence[PlannedShard],
        advance: Callable[[float], None],
        fail: Callable[[Utterance, str], None],
    ) -> Stages:
        resources = ray.cluster_resources()
        num_actors, options = actors(
            len(shards),
            num_cpus=math.floor(resources.get("CPU", 1)),
            num_gpus=math.floor(resources.get("GPU", 0)),
            wanted=self.num_actors,
        )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        planned = ray.put(list(shards))  # held here for as long as an actor may start again
        # One block for each shard; blocks are what goes to actors, and what is tried again.
        numbers = ray.data.from_items(
            [{"id": index} for index in range(len(shards))], override_num_blocks=len(shards)
        )
        reports = numbers.map_batches(
            _ShardActor,
            batch_size=1,
            fn_constructor_args=(worker, planned),
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            **options,
        )
        stages = Stages()
        for row in reports.iter_rows():
            report = msgspec.msgpack.decode(row["report"], type=_Report)
            if report.error:
                raise ExtractionError(report.error)
            shard = shards[report.index]
            for timed in shard.utterances:
                if timed.utterance.id in report.failures:
                    fail(timed.utterance, report.failures[timed.utterance.id])
            advance(shard.seconds)
            stages += Stages(
                decoding=report.decoding, encoding=report.encoding, writing=report.writing
            )
        return stages


def actors(
    num_shards: int, *, num_cpus: int, num_gpus: int, wanted: int | None
) -> tuple[int, dict[str, float]]:
    """Number of actors to run, and the CPUs and GPUs that each of them asks for.

    Never all CPUs: what reads the list of shards for the actors needs one too, and would wait for
    ever.
    """
    most = num_gpus or max(1, num_cpus - 1)
    count = max(1, min(wanted or most, most, num_shards))
    cpus = 1.0 if count < num_cpus else HALF_A_CPU * min(1, num_cpus / count)
    return count, {"num_cpus": cpus, "num_gpus": 1.0 if num_gpus else 0.0}


class _ShardActor:
    """Holds the encoder and encodes one shard after the other."""

    def __init__(self, worker: Worker, shards: Any) -> None:
        ray = import_ray()
        # Put once into Ray's store, not sent to every actor.
        self.shards: Sequence[PlannedShard] = ray.get(shards)
        self.worker: Worker = worker

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (index,) = map(int, batch["id"])
        report = _Report(index, {})
        try:
            self._run(report)
        except AuricleError as error:
            # Reported, not raised: Ray would start over what cannot succeed.
            report.error = str(error)
        return {"report": np.array([msgspec.msgpack.encode(report)], dtype=object)}

    def _run(self, report: _Report) -> None:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if not isinstance(self.worker.load, Loaded):
            encoder = self.worker.load(device=device)
            self.worker = dataclasses.replace(self.worker, load=Loaded(encoder))

        def fail(utterance: Utterance, reason: str) -> None:
            report.failures[utterance.id] = reason

        shard = self.shards[report.index]
        stages = self.worker.run(device, [shard], advance=lambda _: None, fail=fail)
        report.decoding, report.encoding = stages.decoding, stages.encoding
        report.writing = stages.writing


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep messages of a logger that are not errors from the command's reader."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def import_ray() -> Any:
    """Ray, imported only where it is asked for.

    Raises:
        MissingExtraError: It is not installed.
    """
    with optional("ray", 'engine="ray" (--engine ray)'):
        import ray
        import ray.data
        import ray.exceptions
    return ray
