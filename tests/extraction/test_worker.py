from __future__ import annotations

import dataclasses
import functools
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import auricle
from auricle.audio.notes import gathered
from auricle.corpus.reading import utterance_seconds
from auricle.corpus.utterance import Utterance
from auricle.errors import AuricleError, OutputError
from auricle.extraction.plan import PlanLimits, PlannedShard, Timed, plan_shards
from auricle.extraction.selection import Selection
from auricle.extraction.worker import Stages, Worker, is_out_of_memory
from auricle.models.base import Encoder
from auricle.store.folder import Folder
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.reader import open as open_store
from auricle.store.segments import Segments
from auricle.store.shards import Item


@dataclasses.dataclass
class Recorder:
    """Stands for a `StoreWriter`: notes shards instead of writing them."""

    folder: Folder
    meta: StoreMeta
    written: dict[ShardKey, list[str]] = dataclasses.field(default_factory=dict)
    threads: set[threading.Thread] = dataclasses.field(default_factory=set)
    error_after: int | None = None

    def write(self, key: ShardKey, items: Sequence[Item]) -> None:
        if self.error_after == len(self.written):
            raise OutputError("the disk is full")
        self.threads.add(threading.current_thread())
        self.written[key] = [utterance.id for utterance, _ in items]

    @property
    def num_written(self) -> int:
        return sum(map(len, self.written.values()))


@pytest.fixture
def worker(make_worker: Callable[..., Worker], tmp_path: Path) -> Worker:
    worker = make_worker(tmp_path / "out")
    recorder = Recorder(worker.writer.folder, worker.writer.meta)
    return dataclasses.replace(worker, writer=recorder)  # type: ignore[arg-type]


@pytest.fixture
def shards(corpus: list[Utterance]) -> list[PlannedShard]:
    lengths = utterance_seconds(corpus, 1)
    timed = [
        Timed(utterance=u, seconds=float(s))  # type: ignore[arg-type]
        for u, s in zip(corpus, lengths, strict=True)
    ]
    return plan_shards(timed, lambda _: 0, PlanLimits(batch_seconds=4, shard_seconds=3))


def run(
    worker: Worker,
    shards: Sequence[PlannedShard],
    *,
    advance: Callable[[float], None] = lambda _: None,
    fail: Callable[[Utterance, str], None] = lambda *_: None,
) -> Stages:
    return worker.run("cpu", shards, advance=advance, fail=fail)


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_shards_are_written_in_order_whole_and_by_another_thread(
    shards: list[PlannedShard], worker: Worker, num_workers: int
) -> None:
    seconds: list[float] = []
    stages = run(
        dataclasses.replace(worker, num_workers=num_workers), shards, advance=seconds.append
    )
    recorder: Any = worker.writer
    assert len(shards) > 2
    expected = {s.key: [timed.utterance.id for timed in s.utterances] for s in shards}
    assert recorder.written == expected
    assert list(recorder.written) == list(expected)
    assert threading.current_thread() not in recorder.threads
    assert sum(seconds) == pytest.approx(sum(shard.seconds for shard in shards))
    assert min(stages.decoding, stages.encoding, stages.writing) > 0


def test_batches_are_flushed_until_their_shard_is_written(
    shards: list[PlannedShard], worker: Worker
) -> None:
    segments = Segments(worker.writer.folder, worker.writer.meta)
    flushed: set[ShardKey] = set()
    flushing = dataclasses.replace(worker, flush_seconds=0.0)
    run(flushing, shards, advance=lambda _: flushed.update(segments.keys()))
    assert flushed
    assert flushed <= {shard.key for shard in shards}
    assert segments.keys() == set()


def test_what_is_odd_of_many_files_is_one_line(
    shards: list[PlannedShard], worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [timed.utterance.source for shard in shards for timed in shard.utterances][:3]
    for path in paths:
        samples, rate = soundfile.read(path)
        soundfile.write(path, np.stack([samples, -samples], 1), rate)
    with gathered() as notes:
        run(worker, shards)
    assert notes.counts == {"channels": 3}
    assert notes.firsts["channels"].startswith(f"{paths[0]}: its 2 channels cancel")
    assert pickle.loads(pickle.dumps(notes)) == notes  # it comes from other processes
    assert not caplog.messages


def test_what_the_writer_raises_ends_the_run(shards: list[PlannedShard], worker: Worker) -> None:
    recorder: Any = worker.writer
    recorder.error_after = 1
    with pytest.raises(OutputError, match="disk is full") as caught:
        run(worker, shards)
    assert list(recorder.written) == [shards[0].key]
    # Though the error's traceback holds the run.
    assert not [one.name for one in threading.enumerate() if one.name.startswith("auricle-")]
    assert caught.tb


def test_what_a_failure_raises_ends_the_run_before_its_shard_is_written(
    shards: list[PlannedShard], worker: Worker
) -> None:
    second = next(shards[1].utterances).utterance
    Path(second.source).write_bytes(b"no audio at all")

    def stop(utterance: Utterance, reason: str) -> None:
        raise AuricleError(utterance.id)

    with pytest.raises(AuricleError, match=second.id):
        run(worker, shards, fail=stop)
    recorder: Any = worker.writer
    assert list(recorder.written) in ([], [shards[0].key])


def test_a_fault_stays_with_its_utterance(
    shards: list[PlannedShard], worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that fails is encoded one by one, and memory that runs out is no other error."""
    whole = Selection.run
    batch = max((b for shard in shards for b in shard.batches), key=len)
    assert len(batch) > 1
    longest = batch[0]

    def refuse(self: Selection, encoder: Encoder, waveforms: Any, **options: Any) -> Any:
        if max(map(len, waveforms)) == round(longest.seconds * 16_000):
            raise MemoryError
        return whole(self, encoder, waveforms, **options)

    monkeypatch.setattr(Selection, "run", refuse)
    failures: list[tuple[Utterance, str]] = []
    run(worker, shards, fail=lambda *failure: failures.append(failure))
    ((utterance, reason),) = failures
    assert utterance == longest.utterance
    assert "out of memory" in reason
    recorder: Any = worker.writer
    assert recorder.num_written == 11


def test_an_error_of_ours_is_not_taken_for_an_utterances(
    shards: list[PlannedShard], worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Selection, "run", break_down)
    with pytest.raises(RuntimeError, match="a bug"):
        run(worker, shards)


def test_short_audio_can_be_padded(
    shards: list[PlannedShard], worker: Worker, make_short: Callable[[Utterance], None]
) -> None:
    make_short(next(shards[0].utterances).utterance)
    run(dataclasses.replace(worker, pad_short=True), shards)
    recorder: Any = worker.writer
    assert recorder.num_written == 12


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
    shares = "bottleneck: model (time: decoding 20 %, model 60 %, writing 20 %)"
    assert stages.summary == f"{shares}; the model waited 40.0 %"
    assert Stages(decoding=1.0, encoding=199.0).waiting == 0.005
    assert Stages().waiting == 0.0
    assert Stages().summary.startswith("bottleneck: ")


def test_what_is_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"))
    assert not is_out_of_memory(RuntimeError("a bug"))


def test_shards_go_under_their_keys_with_the_lengths_that_were_decoded(
    corpus: list[Utterance], make_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    timed = [Timed(utterance=u, seconds=1.5 + i / 8) for i, u in enumerate(corpus)]
    limits = PlanLimits(batch_seconds=4, shard_seconds=8)
    shards = plan_shards(timed, lambda _: 0, limits, generation=3)
    worker = make_worker(tmp_path / "out")
    again = pickle.loads(pickle.dumps(worker))
    again.run("cpu", shards, advance=lambda _: None, fail=pytest.fail)
    assert worker.writer.completed() == {shard.key for shard in shards}
    worker.writer.close()
    rows = open_store(tmp_path / "out").to_pandas()
    expected = {u.id: soundfile.info(u.source).duration for u in corpus}
    assert dict(zip(rows["id"], rows["seconds"], strict=True)) == expected


def test_the_encoder_is_loaded_where_it_is_to_run(
    corpus: list[Utterance], make_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = make_worker(tmp_path / "out")
    assert isinstance(worker.load, functools.partial)
    assert worker.load(device="cpu").device.type == "cpu"
    assert auricle.load("apc_mini").info == worker.load(device="cpu").info
