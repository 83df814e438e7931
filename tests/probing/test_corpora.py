from __future__ import annotations

from pathlib import Path

import pytest

from auricle.errors import AuricleError
from auricle.probing.corpora import existing_audio, find_table, read_table


def test_rows_are_read_by_column_and_quotes_mean_nothing(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text('path\ttext\na.wav\t"open\nb.wav\tthe "end"\n')
    assert read_table(table, ("path",)) == [
        {"path": "a.wav", "text": '"open'},
        {"path": "b.wav", "text": 'the "end"'},
    ]


def test_names_of_columns_without_case_and_blanks(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("\ufeffPath\t Word \na.wav\tx\n")
    assert read_table(table, ("path", "word")) == [{"path": "a.wav", "word": "x"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks the column"),
        (b"path\tword\n", "no rows"),
        (b"name\tword\na\tb\n", "lacks the column.* path; it has name, word"),
        (b"path\tword\na.wav\tx\nb.wav\n", "line 3: expected a value in path, word"),
        (b"path\tword\n\xff\tx\n", "is no table"),
    ],
)
def test_tables_that_are_not_whole_are_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    table = tmp_path / "t.tsv"
    table.write_bytes(content)
    with pytest.raises(AuricleError, match=message):
        read_table(table, ("path", "word"))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuricleError, match=r"cannot open .*none\.tsv.*pass the folder"):
        read_table(tmp_path / "none.tsv", ("path",))


def test_a_table_is_found_in_the_corpus_and_above_it(tmp_path: Path) -> None:
    inner = tmp_path / "corpus" / "t.tsv"
    inner.parent.mkdir()
    inner.touch()
    assert find_table(tmp_path, "t.tsv", "corpus") == inner
    assert find_table(tmp_path / "corpus", "t.tsv", "corpus") == inner
    outer = tmp_path / "t.tsv"
    outer.touch()
    assert find_table(tmp_path, "t.tsv", "corpus") == outer


def test_missing_audio_is_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    table = tmp_path / "t.tsv"
    assert existing_audio(table, ["a.wav"]) == [tmp_path / "a.wav"]
    with pytest.raises(AuricleError, match=r"2 of the 3 files.*first of them .*b\.wav"):
        existing_audio(table, ["a.wav", "b.wav", "c.wav"])
