from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auricle.corpus.utterance import Fingerprint
from auricle.store.folder import open_folder
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.segments import KeptItem, Segments

KEY = ShardKey(0, 3)


def item(batch: int, *, reason: str = "") -> KeptItem:
    seen = Fingerprint(num_bytes=7, mtime_ns=5, sha256="ab", part_seconds=1.5)
    return KeptItem(batch=batch, id=f"a/{batch}", fingerprint=seen, seconds=2.5, reason=reason)


def write(segments: Segments, batches: range, plan: str = "plan") -> None:
    items = [
        (item(n), {"z": torch.full((2, 3), float(n)), "a": torch.ones(1, 2).bfloat16()})
        for n in batches
    ]
    segments.write(KEY, plan, batches, [*items, (item(batches[0], reason="no audio"), {})])


@pytest.fixture(params=["local", "memory"])
def segments(
    request: pytest.FixtureRequest, tmp_path: Path, make_meta: Callable[..., StoreMeta]
) -> Segments:
    place = tmp_path / "store" if request.param == "local" else f"memory://{tmp_path.name}"
    return Segments(open_folder(place), make_meta())


def test_what_is_written_is_read_back(segments: Segments) -> None:
    assert (segments.num_batches(KEY, "plan"), segments.keys()) == (0, set())
    write(segments, range(2))
    write(segments, range(2, 3))
    assert (segments.num_batches(KEY, "plan"), segments.keys()) == (3, {KEY})
    (first, found), (second, _) = segments.read(KEY, "plan")
    assert (first, second) == (range(2), range(2, 3))
    assert [kept for kept, _ in found] == [item(0), item(1), item(0, reason="no audio")]
    assert torch.equal(found[1][1]["z"], torch.full((2, 3), 1.0))
    assert found[1][1]["a"].dtype == torch.bfloat16
    assert found[2][1] == {}
    segments.remove([KEY])
    assert segments.keys() == set()


def test_only_what_follows_from_the_first_batch_counts(
    segments: Segments, make_meta: Callable[..., StoreMeta]
) -> None:
    write(segments, range(4, 6))
    assert segments.num_batches(KEY, "plan") == 0
    write(segments, range(2))
    write(segments, range(4), plan="another")
    assert segments.num_batches(KEY, "plan") == 2  # not the longer one, which is another plan's
    other = Segments(segments._folder, make_meta(model_sha256="cd" * 32))
    assert other.num_batches(KEY, "plan") == 0
    segments.cut(KEY, 2)
    assert [batches for batches, _ in segments.read(KEY, "plan")] == [range(2)]
    assert len(segments._folder.sizes("partial")) == 1
    segments.cut(KEY, 1)
    assert segments.keys() == set()


def test_a_changed_byte_is_found_and_costs_no_more_than_its_segment(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], caplog: pytest.LogCaptureFixture
) -> None:
    segments = Segments(open_folder(tmp_path), make_meta())
    write(segments, range(1))
    write(segments, range(1, 2))
    path = tmp_path / KEY.segment(1, 2)
    whole = path.read_bytes()
    with caplog.at_level(logging.CRITICAL):
        for place in range(0, len(whole), 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
            found = segments.read(KEY, "plan")
            assert found[0][0] == range(1)
            if len(found) > 1:  # blanks at the end of the header
                assert torch.equal(found[1][1][0][1]["z"], torch.full((2, 3), 1.0))
                assert found[1][1][0][0] == item(1)
        path.write_bytes(whole[: len(whole) // 2])
        assert len(segments.read(KEY, "plan")) == 1
