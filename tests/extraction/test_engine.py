from __future__ import annotations

import dataclasses
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from auricle.audio.notes import gathered
from auricle.corpus.reading import utterance_seconds
from auricle.corpus.utterance import Utterance
from auricle.errors import AuricleError, OutputError
from auricle.extraction.engine import (
    EncodedShard,
    Encoding,
    Failure,
    Stages,
    is_out_of_memory,
    run_shards,
)
from auricle.extraction.plan import PlanLimits, ShardPlan, Timed, plan_shards
from auricle.extraction.selection import Selection
from auricle.models.base import Encoder


@pytest.fixture
def failures() -> list[Failure]:
    return []


@pytest.fixture
def encoding(encoder: Encoder, failures: list[Failure]) -> Encoding:
    return Encoding(
        encoder=encoder, selection=Selection.of(encoder), short="error", fail=failures.append
    )


@pytest.fixture
def shards(corpus: list[Utterance]) -> list[ShardPlan]:
    lengths = utterance_seconds(corpus, 1)
    timed = [
        Timed(utterance=u, seconds=float(s))  # type: ignore[arg-type]
        for u, s in zip(corpus, lengths, strict=True)
    ]
    return plan_shards(timed, lambda _: 0, PlanLimits(batch_seconds=4, shard_seconds=3))


def ids(shards: list[EncodedShard]) -> list[list[str]]:
    return [[utterance.id for utterance, _ in shard.items] for shard in shards]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shards_are_written_in_order_whole_and_by_another_thread(
    shards: list[ShardPlan], encoding: Encoding, num_workers: int
) -> None:
    written: list[EncodedShard] = []
    threads = set()

    def write(done: EncodedShard) -> None:
        threads.add(threading.current_thread())
        written.append(done)

    seconds: list[float] = []
    stages = run_shards(shards, encoding, write, num_workers=num_workers, advance=seconds.append)
    assert len(shards) > 2
    assert [done.plan for done in written] == shards
    assert ids(written) == [[timed.utterance.id for timed in s.utterances] for s in shards]
    assert threading.current_thread() not in threads
    assert sum(seconds) == pytest.approx(sum(shard.seconds for shard in shards))
    assert min(stages.decoding, stages.encoding, stages.writing) > 0


def test_what_is_odd_of_many_files_is_one_line(
    shards: list[ShardPlan], encoding: Encoding, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [timed.utterance.source for shard in shards for timed in shard.utterances][:3]
    for path in paths:
        samples, rate = soundfile.read(path)
        soundfile.write(path, np.stack([samples, -samples], 1), rate)
    with gathered() as notes:
        run_shards(shards, encoding, lambda done: None, num_workers=0)
    assert notes.counts == {"channels": 3}
    assert notes.firsts["channels"].startswith(f"{paths[0]}: its 2 channels cancel")
    assert pickle.loads(pickle.dumps(notes)) == notes  # it comes from other processes
    assert not caplog.messages


def test_what_the_writer_raises_ends_the_run(shards: list[ShardPlan], encoding: Encoding) -> None:
    written = []

    def write(done: EncodedShard) -> None:
        if written:
            raise OutputError("the disk is full")
        written.append(done)

    with pytest.raises(OutputError, match="disk is full"):
        run_shards(shards, encoding, write, num_workers=0)
    assert [done.plan for done in written] == shards[:1]
    assert not [thread for thread in threading.enumerate() if thread.name == "auricle-writer"]


def test_what_a_failure_raises_ends_the_run_before_its_shard_is_written(
    shards: list[ShardPlan], encoding: Encoding
) -> None:
    second = next(shards[1].utterances).utterance
    Path(second.source).write_bytes(b"no audio at all")

    def stop(failure: Failure) -> None:
        raise AuricleError(failure.utterance.id)

    written: list[EncodedShard] = []
    stopping = dataclasses.replace(encoding, fail=stop)
    with pytest.raises(AuricleError, match=second.id):
        run_shards(shards, stopping, written.append, num_workers=0)
    assert [done.plan for done in written] in ([], shards[:1])


def test_a_fault_stays_with_its_utterance(
    shards: list[ShardPlan],
    encoding: Encoding,
    failures: list[Failure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch that fails is encoded one by one, and memory that runs out is no other error."""
    run = Selection.run
    batch = max((b for shard in shards for b in shard.batches), key=len)
    assert len(batch) > 1
    longest = batch[0]

    def refuse(self: Selection, encoder: Encoder, waveforms: Any, **options: Any) -> Any:
        if max(map(len, waveforms)) == round(longest.seconds * 16_000):
            raise MemoryError
        return run(self, encoder, waveforms, **options)

    monkeypatch.setattr(Selection, "run", refuse)
    written: list[EncodedShard] = []
    run_shards(shards, encoding, written.append, num_workers=0)
    assert [failure.utterance for failure in failures] == [longest.utterance]
    assert "out of memory" in failures[0].reason
    assert sum(map(len, ids(written))) == 11


def test_an_error_of_ours_is_not_taken_for_an_utterances(
    shards: list[ShardPlan], encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Selection, "run", break_down)
    with pytest.raises(RuntimeError, match="a bug"):
        run_shards(shards, encoding, lambda _: None, num_workers=0)


def test_short_audio_can_be_padded(
    shards: list[ShardPlan], encoding: Encoding, make_short: Callable[[Utterance], None]
) -> None:
    make_short(next(shards[0].utterances).utterance)
    written: list[EncodedShard] = []
    padding = dataclasses.replace(encoding, short="pad")
    run_shards(shards, padding, written.append, num_workers=0)
    assert sum(map(len, ids(written))) == 12


@pytest.fixture
def make_short() -> Callable[[Utterance], None]:
    import soundfile

    def make(utterance: Utterance) -> None:
        samples, rate = soundfile.read(utterance.source)
        soundfile.write(utterance.source, samples[:10], rate)

    return make


def test_the_stages_in_a_line() -> None:
    stages = Stages(decoding=1.0, encoding=6.0)
    stages += Stages(decoding=1.0, writing=2.0)
    assert stages.summary == ("bottleneck: model (time: decoding 20 %, model 60 %, writing 20 %)")
    assert Stages().summary.startswith("bottleneck: ")


def test_what_is_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"))
    assert not is_out_of_memory(RuntimeError("a bug"))
