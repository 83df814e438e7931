from __future__ import annotations

from pathlib import Path

import pytest

from auricle.corpus.utterance import Utterance
from auricle.errors import StoreError
from auricle.extraction.plan import Limits, Timed, plan_shards
from auricle.extraction.plans import (
    Generation,
    plan_numbers,
    planned_keys,
    read_plans,
    write_plan,
)
from auricle.extraction.store.folder import open_folder

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


def generation(number: int, utterances: list[Timed]) -> Generation:
    limits = Limits(batch_seconds=4, shard_seconds=10)
    return Generation(number=number, shards=tuple(plan_shards(utterances, lambda _: 0, limits)))


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    assert read_plans(folder) == []
    written = [generation(0, UTTERANCES[5:]), generation(1, UTTERANCES[:5])]
    assert len(written[0].shards) > 2
    for one in written:
        write_plan(folder, one)
    assert read_plans(folder) == written
    assert written[1].key(written[1].shards[0]) == (1, 0)
    assert plan_numbers(folder) == [0, 1]
    assert planned_keys(folder, 0) == {written[0].key(shard) for shard in written[0].shards}


def test_a_damaged_plan_is_an_error_and_a_missing_one_is_not(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    for number in (0, 1):
        write_plan(folder, generation(number, UTTERANCES))
    path = tmp_path / "plans" / "00001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"00001.parquet cannot be read: .*; remove it"):
        read_plans(folder)
    path.write_bytes((tmp_path / "plans" / "00000.parquet").read_bytes())
    (tmp_path / "plans" / "00000.parquet").unlink()
    assert [one.number for one in read_plans(folder)] == plan_numbers(folder) == [1]
