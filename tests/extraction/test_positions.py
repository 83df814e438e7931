from __future__ import annotations

from pathlib import Path

import pytest

from auricle.errors import StoreError
from auricle.extraction.positions import Position, Positions
from auricle.extraction.store.folder import open_folder


def test_streams_stand_where_they_were_noted(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    positions = Positions(folder)
    assert positions.find("a", "train") == Position(source="a", split="train")
    noted = [
        Position(source="a", split="train", num_rows=8, end_row=12),
        Position(source="a", split="test", num_rows=2, end_row=2),
    ]
    for position in [Position(source="a", split="train", num_rows=4, end_row=8), *noted]:
        positions.note(position)
    for found in (positions, Positions(folder)):
        assert [found.find("a", split) for split in ("train", "test")] == noted
        assert found.find("b", "train").num_rows == 0


def test_a_damaged_file_says_what_mends_it(tmp_path: Path) -> None:
    (tmp_path / "streams.json").write_text("[{")
    with pytest.raises(StoreError, match=r"streams.json cannot be read.*remove it"):
        Positions(open_folder(tmp_path))
