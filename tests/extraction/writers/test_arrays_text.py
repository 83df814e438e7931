from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.errors import OutputError
from auricle.extraction.writers import open_format
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.writer import StoreWriter


def test_lines_are_in_the_order_of_the_corpus(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    """Those of other runs come after, by their ids; what failed has none."""
    meta = make_meta({"units": 1, "durations": 1}, format="text")
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    items = make_items(meta, ["b", "speaker/é", "a", "c"])
    writer.write(ShardKey(0, 0), items[:2])
    writer.write(ShardKey(0, 1), items[2:])
    writer.close(["c", "failed", "b"])
    by_id = {utterance.id: arrays for utterance, arrays in items}
    for layer in ("units", "durations"):
        rows = [[name, *map(str, by_id[name][layer][:, 0].tolist())] for name in ("c", "b", "a")]
        lines = (tmp_path / f"{layer}.txt").read_text(encoding="utf-8").splitlines()
        assert [line.split(" ") for line in lines[:3]] == rows
        assert lines[3].split(" ")[0] == "speaker/é"


def test_codes_of_a_frame_are_one_word(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta({"codes": 2}, format="text", dtype="int64")
    items = make_items(meta, ["a"])
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    writer.write(ShardKey(0, 0), items)
    writer.close()
    words = [f"{first},{second}" for first, second in items[0][1]["codes"].tolist()]
    assert (tmp_path / "codes.txt").read_text() == f"a {' '.join(words)}\n"


def test_an_utterance_without_frames_has_a_line(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta({"units": 1}, format="text", dtype="int16")
    ((utterance, arrays),) = make_items(meta, ["a"])
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    writer.write(ShardKey(0, 0), [(utterance, {"units": arrays["units"][:0]})])
    writer.close()
    assert (tmp_path / "units.txt").read_bytes() == b"a\n"


@pytest.mark.parametrize("name", ["a b", "a\u2003b", "a\n", " "])
def test_ids_with_white_space_are_refused(make_meta: Callable[..., StoreMeta], name: str) -> None:
    with pytest.raises(OutputError, match="white space"):
        open_format(make_meta(format="text")).check_id(name)
