from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auricle.corpus.utterance import Fingerprint, Utterance
from auricle.store.folder import open_folder
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.segments import Result, Segments

KEY = ShardKey(0, 3)


def utterance(batch: int) -> Utterance:
    seen = Fingerprint(num_bytes=7, mtime_ns=5, sha256="ab", part_seconds=1.5)
    return Utterance(id=f"a/{batch}", source="a.wav", seconds=2.5, fingerprint=seen)


FAILED = Utterance(id="failed", source="a.wav")
PLANNED = {
    name: Utterance(id=name, source="a.wav") for name in ("failed", *(f"a/{n}" for n in range(6)))
}


def write(segments: Segments, batches: range, plan: str = "plan") -> None:
    results: list[list[Result]] = [
        [(utterance(n), {"z": torch.full((2, 3), float(n)), "a": torch.ones(1, 2).bfloat16()})]
        for n in batches
    ]
    results[0].append((FAILED, "no audio"))
    segments.write(KEY, plan, batches.start, results)


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
    first, second, third = segments.read(KEY, "plan", PLANNED)
    assert [kept for kept, _ in first] == [utterance(0), FAILED]
    assert first[0][0].fingerprint == utterance(0).fingerprint
    assert first[1][1] == "no audio"
    assert [kept for kept, _ in second] == [utterance(1)]
    arrays = second[0][1]
    assert isinstance(arrays, dict)
    assert torch.equal(arrays["z"], torch.full((2, 3), 1.0))
    assert arrays["a"].dtype == torch.bfloat16
    assert [kept for kept, _ in third] == [utterance(2), FAILED]
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
    assert [batches for batches, _ in segments.kept(KEY, "plan")] == [range(2)]
    assert len(segments.read(KEY, "plan", PLANNED)) == 2
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
            found = segments.read(KEY, "plan", PLANNED)
            assert [kept for kept, _ in found[0]] == [utterance(0), FAILED]
            if len(found) > 1:  # blanks at the end of the header
                ((kept, arrays), _) = found[1]
                assert isinstance(arrays, dict)
                assert torch.equal(arrays["z"], torch.full((2, 3), 1.0))
                assert (kept, kept.fingerprint) == (utterance(1), utterance(1).fingerprint)
        path.write_bytes(whole[: len(whole) // 2])
        assert len(segments.read(KEY, "plan", PLANNED)) == 1
