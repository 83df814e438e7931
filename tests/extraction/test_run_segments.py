"""What is encoded of a shard that is not whole is kept, and never mixed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from auricle.corpus.utterance import Utterance
from auricle.extraction.engines import LocalEngine
from auricle.extraction.plan import PlanLimits
from auricle.extraction.run import Summary
from auricle.extraction.worker import Worker
from auricle.store.reader import open as open_store
from extraction.conftest import Stopping, bytes_of, contents, extract


# Those left to --whole are interrupted and go on in test_run_full_disk.py and test_run_killed.py.
@pytest.mark.parametrize(
    "form",
    [
        "store",
        "webdataset",
        *(pytest.param(form, marks=pytest.mark.whole) for form in ("npy", "hdf5", "arrow")),
    ],
)
def test_what_is_encoded_of_a_shard_that_is_not_whole_is_kept(
    corpus: list[Utterance], make_worker: Callable[..., Worker], tmp_path: Path, form: str
) -> None:
    Path(corpus[4].source).write_bytes(b"no audio at all")

    def run(out: Path, progress: Any) -> Summary:
        return extract(
            corpus,
            make_worker(out, form=form, flush_seconds=1e9),
            LocalEngine(("cpu",)),
            num_bytes=lambda _: 0,
            progress=progress,
            limits=PlanLimits(batch_seconds=2),
        )

    whole = Stopping(-1)
    first = run(tmp_path / "whole", whole)
    out = tmp_path / "stopped"
    chance = random.Random(3)
    num_encoded = num_stops = 0
    notes: list[str] = []
    while True:
        progress = Stopping(chance.choice([1, 2]))
        try:
            last = run(out, progress)
        except KeyboardInterrupt as error:
            num_encoded += progress.num_encoded
            num_stops += 1
            (note,) = error.__notes__  # type: ignore[attr-defined]
            notes.append(note)
            assert len(list(out.glob("partial/*/*.safetensors"))) == num_stops
            assert not list(out.glob("shards/*"))
            continue
        num_encoded += progress.num_encoded
        break
    assert num_stops > 3
    assert all(note.startswith(f"{out} keeps ") for note in notes)
    assert num_encoded == whole.num_encoded  # no batch twice
    assert (last.num_before + last.num_encoded, last.num_failed) == (first.num_encoded, 1)
    assert contents(out) == contents(tmp_path / "whole")


def test_segments_of_another_plan_are_removed_before_they_can_mix(
    corpus: list[Utterance], make_worker: Callable[..., Worker], tmp_path: Path, heard: Any
) -> None:
    out = tmp_path / "out"
    options: Any = {"num_bytes": lambda _: 0, "limits": PlanLimits(batch_seconds=2)}

    def run(progress: Any) -> Summary:
        return extract(
            corpus,
            make_worker(out, flush_seconds=1e9),
            LocalEngine(("cpu",)),
            progress=progress,
            **options,
        )

    with pytest.raises(KeyboardInterrupt):
        run(Stopping(2))
    (segment,) = out.glob("partial/*/*.safetensors")
    beyond = segment.with_name("000003-000005.safetensors")
    shutil.copy(segment, beyond)  # of batches that this run has not encoded
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(1))
    assert not beyond.exists()
    assert run(heard).num_failed == 0
    assert open_store(out).verify() == []


def test_what_was_kept_of_audio_that_has_changed_since_is_encoded_again(
    corpus: list[Utterance], make_worker: Callable[..., Worker], tmp_path: Path, heard: Any
) -> None:
    def run(progress: Any) -> Summary:
        return extract(
            corpus,
            make_worker(tmp_path / "out"),
            LocalEngine(("cpu",)),
            num_bytes=lambda _: 0,
            progress=progress,
            limits=PlanLimits(batch_seconds=2),
        )

    broken, replaced = corpus[11], corpus[10]  # the longest come first
    whole = Path(broken.source).read_bytes()
    Path(broken.source).write_bytes(whole[:30])
    lengths = {u.id: u.source for u in corpus}
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(4))
    Path(broken.source).write_bytes(whole)
    samples, rate = soundfile.read(replaced.source)
    soundfile.write(replaced.source, samples[::-1], rate)
    assert run(heard).num_failed == 0
    assert set(bytes_of(tmp_path / "out")) | {broken.id} == set(lengths)
    run(heard)
    fresh = make_worker(tmp_path / "fresh")
    extract(
        corpus,
        fresh,
        LocalEngine(("cpu",)),
        num_bytes=lambda _: 0,
        progress=heard,
        limits=PlanLimits(batch_seconds=2),
    )
    out, other = open_store(tmp_path / "out"), open_store(tmp_path / "fresh")
    for name in other.ids:
        torch.testing.assert_close(out[name], other[name], rtol=0, atol=1e-4)
