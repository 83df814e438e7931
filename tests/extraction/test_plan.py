from __future__ import annotations

import random
from pathlib import Path

import pytest

from auricle.corpus.utterance import Utterance
from auricle.errors import StoreError
from auricle.extraction.plan import (
    PlanLimits,
    PlannedShard,
    Timed,
    padded_seconds,
    plan_batches,
    plan_numbers,
    plan_shards,
    planned_keys,
    read_plan,
    write_plan,
)
from auricle.store.folder import open_folder


def timed(*lengths: float) -> list[Timed]:
    return [
        Timed(utterance=Utterance(id=f"u{index}", source=f"u{index}.wav"), seconds=seconds)
        for index, seconds in enumerate(lengths)
    ]


def ids(batches: list[tuple[Timed, ...]]) -> list[list[str]]:
    return [[item.utterance.id for item in batch] for batch in batches]


def test_longest_first_within_the_budget_padding_included() -> None:
    assert ids(plan_batches(timed(9.9, 10, 1, 10, 9.8), 30)) == [["u1", "u3", "u0"], ["u4"], ["u2"]]


def test_what_is_longer_than_the_budget_goes_alone() -> None:
    assert ids(plan_batches(timed(5, 50, 49), 30)) == [["u1"], ["u2"], ["u0"]]


def test_a_batch_is_at_most_a_twentieth_padding() -> None:
    # 10 and 9: half of a tenth is lost. A third of 9 would lose 2 of 30.
    assert ids(plan_batches(timed(10, 9, 9), 100)) == [["u0", "u1"], ["u2"]]
    assert ids(plan_batches(timed(10, 8.99), 100)) == [["u0"], ["u1"]]


def test_the_same_utterances_give_the_same_batches_in_any_order() -> None:
    rng = random.Random(0)
    utterances = timed(*(rng.choice([3.0, 4.0, rng.uniform(1, 20)]) for _ in range(200)))
    expected = plan_batches(utterances, 60)
    rng.shuffle(utterances)
    assert plan_batches(utterances, 60) == expected


def test_every_utterance_is_in_one_shard_and_shards_are_bounded() -> None:
    rng = random.Random(1)
    utterances = timed(*(rng.uniform(1, 16) for _ in range(500)))
    limits = PlanLimits(batch_seconds=60, shard_bytes=300_000, shard_seconds=500)
    shards = plan_shards(utterances, lambda seconds: round(1000 * seconds), limits)
    assert [shard.key.shard for shard in shards] == list(range(len(shards)))
    kept = [item.utterance.id for shard in shards for item in shard.utterances]
    assert sorted(kept) == sorted(item.utterance.id for item in utterances)
    for shard in shards[:-1]:
        assert 300 <= shard.seconds < 300 + 60
    padded = sum(padded_seconds(shard.batches) for shard in shards)
    assert 0 < 1 - sum(shard.seconds for shard in shards) / padded < 0.05


def test_a_shard_ends_at_so_many_seconds_too() -> None:
    shards = plan_shards(
        timed(*[10.0] * 6), lambda _: 0, PlanLimits(batch_seconds=10, shard_seconds=20)
    )
    assert [shard.seconds for shard in shards] == [20, 20, 20]
    assert [padded_seconds(shard.batches) for shard in shards] == [20, 20, 20]


def test_nothing_needs_no_shard() -> None:
    assert plan_batches([], 60) == []
    assert plan_shards([], lambda _: 1, PlanLimits()) == []


UTTERANCES = [
    Timed(utterance=Utterance(id="a/é", source="x\udcff.wav", channel=1), seconds=3.25),
    Timed(
        utterance=Utterance(
            id="b", source="x.tar", container="tar", member="m.flac", start=1 / 3, seconds=2.0
        ),
        seconds=2.0,
    ),
    *(
        Timed(utterance=Utterance(id=f"u{index}", source=f"{index}.wav"), seconds=index / 7)
        for index in range(1, 40)
    ),
]


def planned(generation: int, utterances: list[Timed]) -> list[PlannedShard]:
    limits = PlanLimits(batch_seconds=4, shard_seconds=10)
    return plan_shards(utterances, lambda _: 0, limits, generation=generation)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    assert plan_numbers(folder) == []
    written = [planned(0, UTTERANCES[5:]), planned(1, UTTERANCES[:5])]
    assert len(written[0]) > 2
    for shards in written:
        write_plan(folder, shards)
    assert [read_plan(folder, number) for number in (0, 1)] == written
    assert written[1][0].key == (1, 0)
    assert plan_numbers(folder) == [0, 1]
    assert planned_keys(folder, 0) == {shard.key for shard in written[0]}


def test_a_damaged_plan_is_an_error_and_a_missing_one_is_not(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    for number in (0, 1):
        write_plan(folder, planned(number, UTTERANCES))
    path = tmp_path / "plans" / "00001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"00001.parquet cannot be read: .*; remove it"):
        read_plan(folder, 1)
    path.write_bytes((tmp_path / "plans" / "00000.parquet").read_bytes())
    (tmp_path / "plans" / "00000.parquet").unlink()
    assert plan_numbers(folder) == [1]
    assert {shard.key.generation for shard in read_plan(folder, 1)} == {1}


def test_a_digest_tells_plans_apart_whatever_their_generation() -> None:
    (first, *_), (again, *_) = planned(0, UTTERANCES), planned(7, UTTERANCES)
    assert first.digest == again.digest
    dropped = next(first.utterances).utterance.id
    assert first.without([dropped]).digest != first.digest
    assert dropped not in {timed.utterance.id for timed in first.without([dropped]).utterances}
