"""Shards on many machines: Ray Data hands them to actors that hold the encoder."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np

from auricle.errors import AuricleError, ExtractionError
from auricle.extraction.engine import Failure, Stages
from auricle.extraction.work import Loaded, Shard, Work
from auricle.optional import optional

HALF_A_CPU = 0.5
"""What an actor asks for of a machine's only CPU; reading asks for the other half."""


class _Report(msgspec.Struct):
    """What an actor tells of a shard: reasons by id, seconds of stages, why it went no further."""

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
        work: Work,
        shards: Sequence[Shard],
        *,
        advance: Callable[[float], None],
        fail: Callable[[Failure], None],
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
                "or leave --address out to use this machine alone"
            ) from error
        try:
            with _quiet("ray.data"):
                return self._run(ray, work, shards, advance, fail)
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
        work: Work,
        shards: Sequence[Shard],
        advance: Callable[[float], None],
        fail: Callable[[Failure], None],
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
        planned = ray.put(list(shards))  # held here for as long as an actor may start anew
        # One block for each shard; blocks are what goes to actors, and what is tried again.
        numbers = ray.data.from_items(
            [{"id": index} for index in range(len(shards))], override_num_blocks=len(shards)
        )
        reports = numbers.map_batches(
            _ShardActor,
            batch_size=1,
            fn_constructor_args=(work, planned),
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            **options,
        )
        stages = Stages()
        for row in reports.iter_rows():
            report = msgspec.msgpack.decode(row["report"], type=_Report)
            if report.error:
                raise ExtractionError(report.error)
            plan = shards[report.index].plan
            for timed in plan.utterances:
                if timed.utterance.id in report.failures:
                    reason = report.failures[timed.utterance.id]
                    fail(Failure(utterance=timed.utterance, reason=reason))
            advance(plan.seconds)
            stages += Stages(
                decoding=report.decoding, encoding=report.encoding, writing=report.writing
            )
        return stages


def actors(
    num_shards: int, *, num_cpus: int, num_gpus: int, wanted: int | None
) -> tuple[int, dict[str, float]]:
    """How many actors to run, and the CPUs and GPUs that each of them asks for.

    Never all CPUs: what reads the list of shards for the actors needs one too, and would wait for
    ever.
    """
    most = num_gpus or max(1, num_cpus - 1)
    count = max(1, min(wanted or most, most, num_shards))
    cpus = 1.0 if count < num_cpus else HALF_A_CPU * min(1, num_cpus / count)
    return count, {"num_cpus": cpus, "num_gpus": 1.0 if num_gpus else 0.0}


class _ShardActor:
    """Holds the encoder and encodes one shard after the other."""

    def __init__(self, work: Work, shards: Any) -> None:
        ray = import_ray()
        # Put once into Ray's store, not sent to every actor.
        self.shards: Sequence[Shard] = ray.get(shards)
        self.work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (index,) = map(int, batch["id"])
        report = _Report(index, {})
        try:
            self._run(report)
        except AuricleError as error:
            # Told, not raised: Ray would start over what cannot succeed.
            report.error = str(error)
        return {"report": np.array([msgspec.msgpack.encode(report)], dtype=object)}

    def _run(self, report: _Report) -> None:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if not isinstance(self.work.load, Loaded):
            encoder = self.work.load(device=device)
            self.work = dataclasses.replace(self.work, load=Loaded(encoder))

        def fail(failure: Failure) -> None:
            report.failures[failure.utterance.id] = failure.reason

        shard = self.shards[report.index]
        stages = self.work.run(device, [shard], advance=lambda _: None, fail=fail)
        report.decoding, report.encoding = stages.decoding, stages.encoding
        report.writing = stages.writing


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep what a logger tells of its work, and is not an error, from the command's reader."""
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
    with optional("ray", "--engine ray"):
        import ray
        import ray.data
        import ray.exceptions
    return ray
