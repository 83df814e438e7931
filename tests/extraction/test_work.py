from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

import auricle
from auricle.corpus.utterance import Utterance
from auricle.extraction.plan import PlanLimits, Timed, plan_shards
from auricle.extraction.work import Shard, Work
from auricle.store.layout import ShardKey
from auricle.store.reader import open as open_store


def test_shards_go_under_their_keys_with_the_lengths_that_were_decoded(
    corpus: list[Utterance], make_work: Callable[..., Work], tmp_path: Path
) -> None:
    timed = [Timed(utterance=u, seconds=1.5 + i / 8) for i, u in enumerate(corpus)]
    plans = plan_shards(timed, lambda _: 0, PlanLimits(batch_seconds=4, shard_seconds=8))
    shards = [Shard(key=ShardKey(3, 7 + plan.number), plan=plan) for plan in plans]
    work = make_work(tmp_path / "out")
    again = pickle.loads(pickle.dumps(work))
    again.run("cpu", shards, advance=lambda _: None, fail=pytest.fail)
    assert work.writer.completed() == {shard.key for shard in shards}
    work.writer.close()
    rows = open_store(tmp_path / "out").to_pandas()
    expected = {u.id: soundfile.info(u.source).duration for u in corpus}
    assert dict(zip(rows["id"], rows["seconds"], strict=True)) == expected


def test_the_encoder_is_loaded_where_it_is_to_run(
    corpus: list[Utterance], make_work: Callable[..., Work], tmp_path: Path
) -> None:
    work = make_work(tmp_path / "out")
    assert isinstance(work.load, functools.partial)
    assert work.load(device="cpu").device.type == "cpu"
    assert auricle.load("apc_mini").info == work.load(device="cpu").info
