from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from auricle.extraction.store.ids import SortedIds

NAMES = ["a", "a/b", "ab", "é", "наука", "日本", "\U0001f600"]


def test_finds_what_is_there_and_nothing_else() -> None:
    ids = SortedIds(pa.chunked_array([NAMES[:3], NAMES[3:]]))
    assert list(ids) == NAMES
    assert [ids.find(name) for name in NAMES] == list(range(len(NAMES)))
    for name in ("", "b", "a/", "zz", "\U0001f601", "\ud800"):
        assert ids.find(name) is None


def test_slices_and_pickles() -> None:
    whole = pa.chunked_array([NAMES])
    ids = pickle.loads(pickle.dumps(SortedIds(whole.slice(2, 3))))
    assert list(ids) == NAMES[2:5]
    with pytest.raises(IndexError, match="from 0 to 2, but is 3"):
        ids[3]


@pytest.mark.parametrize("chunks", [[], [[]]])
def test_no_ids(chunks: list[list[str]]) -> None:
    ids = SortedIds(pa.chunked_array(chunks, pa.string()))
    assert len(ids) == 0
    assert ids.find("a") is None
    assert ids.near("a") == []


def test_near_ids_are_like_the_one_asked_for() -> None:
    names = sorted(f"speaker-{index:05d}" for index in range(5000))
    near = SortedIds(pa.chunked_array([names])).near("speaker-02500.flac")
    assert "speaker-02500" in near
    assert len(near) == 3
