from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import auricle
from auricle.corpus.reading import utterance_seconds
from auricle.corpus.utterance import Utterance
from auricle.errors import ExtractionError, UnknownModelError
from auricle.extraction.engines import LocalEngine, all_devices
from auricle.extraction.plan import PlanLimits, PlannedShard, Timed, plan_shards
from auricle.extraction.worker import LoadOn, Worker
from auricle.store.reader import open as open_store


@pytest.fixture
def shards(corpus: list[Utterance]) -> list[PlannedShard]:
    Path(corpus[2].source).write_bytes(b"no audio at all")
    seconds = [1.0 if isinstance(s, Exception) else s for s in utterance_seconds(corpus, 1)]
    timed = [Timed(utterance=u, seconds=s) for u, s in zip(corpus, seconds, strict=True)]
    shards = plan_shards(timed, lambda _: 0, PlanLimits(batch_seconds=3, shard_seconds=2))
    assert len(shards) > 3
    return shards


@pytest.mark.parametrize(
    "context",
    # Python is started anew for those that decode audio, which the others start, in any case.
    ["forked_workers", pytest.param(None, marks=pytest.mark.whole)],
)
def test_several_processes_write_what_one_does(
    context: str | None,
    shards: list[PlannedShard],
    make_worker: Callable[..., Worker],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if context is not None:
        request.getfixturevalue(context)
    written: list[dict[str, bytes]] = []
    for name, devices in (("one", ("cpu",)), ("two", ("cpu", "cpu"))):
        seconds: list[float] = []
        failures: list[str] = []
        worker = make_worker(tmp_path / name, num_workers=len(devices) - 1)
        stages = LocalEngine(devices)(
            worker,
            shards,
            advance=seconds.append,
            fail=lambda utterance, _, failures=failures: failures.append(utterance.id),
        )
        worker.writer.close()
        assert sum(seconds) == pytest.approx(sum(shard.seconds for shard in shards))
        assert failures == ["s2/u2"]
        assert stages.encoding > 0
        store = open_store(tmp_path / name)
        written.append({id_: store[id_].numpy().tobytes() for id_ in store.ids})
    assert len(written[0]) == 11
    assert written[0] == written[1]


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("load", "error", "message"),
    [
        # Other processes cannot import this file: a bug in the loading is that of a built-in.
        (int, ExtractionError, r"process of cpu has died \(exit status 1"),
        (partial(auricle.load, "terra"), UnknownModelError, "no model is called 'terra'"),
    ],
)
def test_a_process_that_fails_ends_the_run(
    load: LoadOn,
    error: type[Exception],
    message: str,
    shards: list[PlannedShard],
    make_worker: Callable[..., Worker],
    tmp_path: Path,
) -> None:
    worker = dataclasses.replace(make_worker(tmp_path / "out"), load=load)
    engine = LocalEngine(("cpu", "cpu"))
    with pytest.raises(error, match=message):
        engine(worker, shards, advance=lambda _: None, fail=lambda *_: None)


def test_no_shards_load_nothing(make_worker: Callable[..., Worker], tmp_path: Path) -> None:
    worker = dataclasses.replace(make_worker(tmp_path / "out"), load=int)
    LocalEngine(("cpu",))(worker, [], advance=lambda _: None, fail=lambda *_: None)


def test_without_a_gpu_the_cpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert all_devices() == ("cpu",)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert all_devices() == ("cuda:0", "cuda:1")
