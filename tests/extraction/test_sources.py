from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auricle.corpus.reading import fingerprint
from auricle.corpus.utterance import Utterance
from auricle.errors import OutputError
from auricle.extraction import sources
from auricle.extraction.sources import Encoded, compare, difference, has_changed
from auricle.store.index import IndexRow, rows_table
from auricle.store.layout import ShardKey

KEY = ShardKey(0, 0)


def encoded(utterance: Utterance, **fields: Any) -> Encoded:
    return dataclasses.replace(Encoded.of(utterance, fingerprint(utterance)), **fields)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Utterance]:
    """Makes an utterance, and its file with some content."""

    def make(name: str, content: bytes = b"one", **fields: Any) -> Utterance:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return Utterance(id=path.stem, source=str(path), **fields)

    return make


def test_path_size_and_time_are_enough_and_contents_decide_where_they_differ(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterance = make("tr/1.wav")
    before = encoded(utterance)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "fingerprint", None)  # not even opened
        assert difference(utterance, before) is None
    os.utime(utterance.source, ns=(1, 1))
    assert difference(utterance, before) is None
    assert difference(make("copy/1.wav"), before) is None
    assert "(" + make("tr/1.wav", b"two").source in str(difference(utterance, before))
    assert "has changed" in str(difference(utterance, before))
    moved = difference(make("te/1.wav", b"two"), before)
    assert moved is not None
    assert moved.startswith(f"1 was {utterance.source}, and is ")
    Path(utterance.source).unlink()
    assert difference(utterance, before) is None  # that it is gone is another matter


def test_a_file_of_the_same_size_and_time_elsewhere_is_looked_into(make: Any) -> None:
    one, two = make("tr/1.wav", b"one"), make("te/1.wav", b"two")
    for utterance in (one, two):
        os.utime(utterance.source, ns=(7, 7))
    assert difference(two, encoded(one)) is not None


@pytest.mark.parametrize(
    ("before", "now", "differs"),
    [
        ({}, {}, False),
        ({"start": 1.0, "seconds": 2.0}, {"start": 1.0, "seconds": 2.0 + 1e-9}, False),
        ({"start": 1.0, "seconds": 2.0}, {"start": 1.0, "seconds": 2.001}, True),
        ({"start": 1.0, "seconds": 2.0}, {"start": 1.5, "seconds": 2.0}, True),
        ({}, {"seconds": 2.004}, False),  # of the whole file, rounded
        ({}, {"seconds": 1.5}, True),
        ({"channel": 0}, {"channel": 1}, True),
        ({"channel": 0}, {}, True),
    ],
)
def test_another_part_is_a_change(
    make: Any, before: dict[str, Any], now: dict[str, Any], differs: bool
) -> None:
    held = encoded(make("a.wav", **before))
    if before.get("seconds") in (None, 2.0):
        held = dataclasses.replace(held, seconds=2.0)  # what was decoded
    assert (difference(make("a.wav", **now), held) is not None) == differs


@pytest.mark.parametrize(("seconds", "differs"), [(2.0, False), (2.004, False), (1.0, True)])
def test_a_part_is_no_whole_unless_it_reaches_the_end(
    make: Any, seconds: float, differs: bool
) -> None:
    content = io.BytesIO()
    soundfile.write(content, np.zeros(24_000), 8_000, format="WAV")
    held = encoded(make("a.wav", content.getvalue(), start=1.0, seconds=seconds))
    held = dataclasses.replace(held, seconds=min(seconds, 2.0))  # what was decoded
    now = difference(make("a.wav", content.getvalue(), start=1.0), held)
    assert (now is not None) == differs
    if now is not None:
        assert now.startswith("a was 1 s from 1 s (now all from 1 s) of ")


def test_members_of_archives(tmp_path: Path, make: Any) -> None:
    first, second = make("1.wav", b"one"), make("2.wav", b"two")
    archive = tmp_path / "a.tar"

    def pack(*pairs: tuple[str, Utterance]) -> None:
        with tarfile.open(archive, "w") as file:
            for name, utterance in pairs:
                file.add(utterance.source, name)

    pack(("x.wav", first), ("y.wav", second))
    x, y = (
        Utterance(id=name, source=str(archive), container="tar", member=f"{name}.wav")
        for name in "xy"
    )
    before = encoded(x), encoded(y)
    pack(("y.wav", second), ("x.wav", second))  # packed again, one of them another
    os.utime(archive, ns=(9, 9))
    assert difference(y, before[1]) is None
    assert difference(x, before[0]) is not None


def table(*pairs: tuple[str, Encoded]) -> Any:
    rows = []
    for name, one in pairs:
        seen = one.fingerprint
        record = [None] * 4
        if seen is not None:
            record = [seen.part_seconds, seen.num_bytes, seen.mtime_ns, seen.sha256]
        where = ("shards/x", 0, 1, 1, "float32", one.source, one.start, one.seconds, "ab")
        rows += [IndexRow(name, layer, *where, one.channel, *record) for layer in "ab"]
    return rows_table(rows)


def test_what_a_store_holds_is_compared(
    make: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    same, changed, gone, old, other = (make(f"c/{n}.wav") for n in ("a", "b", "g", "o", "p"))
    held = [(u.id, encoded(u)) for u in (same, changed, gone)]
    held += [(u.id, encoded(u, fingerprint=None)) for u in (old, other)]
    new = make("c/new.wav")
    make("c/b.wav", b"another")
    other = make("elsewhere/p.wav")
    Path(gone.source).unlink()
    found = compare([(KEY, table(*held))], [same, changed, old, other, new])
    assert found.kept == {"a", "g", "o"}
    assert [change.id for change in found.changed[KEY]] == ["b", "p"]
    assert (found.num_unknown, found.num_gone) == (1, 1)
    assert compare([(KEY, table(*held))], [make("elsewhere/q.wav")]).num_gone == 0
    with pytest.raises(OutputError, match=r"under 2 ids.*b \(.*changed since; p was .*--refresh"):
        found.report("out", refuses=True)
    found.report("out", refuses=False)
    assert "of 1 id it is not known" in caplog.text
    assert "the sources of 1 id are not there any more" in caplog.text


def test_what_could_not_be_read_has_changed_once_it_can(make: Any) -> None:
    utterance = make("a.wav")
    assert has_changed(utterance, None)
    assert not has_changed(utterance, fingerprint(utterance))
    assert not has_changed(dataclasses.replace(utterance, source="/nowhere/a.wav"), None)
