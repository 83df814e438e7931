from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from auricle.corpus.tables import has_path_column, json_objects, list_table
from auricle.corpus.utterance import Scope
from auricle.errors import AudioError
from corpus.conftest import listed, rows_of

Touch = Callable[..., list[Path]]


EXPECTED = [("one", 0.0, None, None), ("two", 1.5, 2.5, 1), ("a-000003000", 3.0, None, None)]


def test_a_csv(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "b, c.wav")
    text = '\ufeffid,path,start,duration,channel,text\none,a.wav,,7.25,,"hi, you"\ntwo,"b, c.wav",1.5,2.5,1,\n,a.wav,3,,,\n'
    listing = listed(tmp_path / "l.csv", text)
    assert rows_of(listing) == EXPECTED
    assert listing.known_seconds == {"one": 7.25}
    assert listing.problems == []


def test_a_tsv_knows_no_quotes(tmp_path: Path, touch: Touch) -> None:
    touch('"a.wav')
    assert rows_of(listed(tmp_path / "l.tsv", 'text\tpath\n"x\t"a.wav\n')) == [
        ('"a', 0.0, None, None)
    ]


def test_only_a_tsv_names_nothing_outside_of_its_folder(tmp_path: Path, touch: Touch) -> None:
    touch("in/b.wav", "a.wav")
    text = f"path\n{tmp_path}/a.wav\n"
    assert [p.kind for p in listed(tmp_path / "in/l.tsv", text).problems] == ["escape"]
    assert rows_of(listed(tmp_path / "in/l.csv", text)) == [("a", 0.0, None, None)]


def test_json_lines_of_nemo(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    lines = [
        {"audio_filepath": "a.wav", "duration": 7.25, "text": "ä"},
        {"audio_filepath": str(tmp_path / "a.wav"), "offset": 1.0, "duration": 2, "id": 7},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    expected = [("a", 0.0, None, None), ("7", 1.0, 2.0, None)]
    listing = listed(tmp_path / "m.json", text)
    assert rows_of(listing) == expected
    assert listing.known_seconds == {"a": 7.25}
    assert rows_of(listed(tmp_path / "m.jsonl.gz", gzip.compress(text.encode()))) == expected


def test_a_parquet_table(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "b, c.wav")
    table = pa.table(
        {
            "id": ["one", "two", None],
            "wav": ["a.wav", "b, c.wav", "a.wav"],
            "start": [None, 1.5, 3.0],
            "seconds": [7.25, 2.5, None],
            "channel": [None, 1, None],
            "other": [[1], [2], [3]],
        }
    )
    parquet.write_table(table, tmp_path / "l.parquet", row_group_size=2)
    listing = list_table(str(tmp_path / "l.parquet"), Scope())
    assert rows_of(listing) == EXPECTED
    assert listing.known_seconds == {"one": 7.25}


def test_an_end_cuts(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    listing = listed(tmp_path / "l.csv", "id,path,start,end\nx,a.wav,1,1.5\ny,a.wav,,2\n")
    assert rows_of(listing) == [("x", 1.0, 0.5, None), ("y", 0.0, 2.0, None)]


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        ("x,,,,", "unreadable", "the path is None"),
        ("x,gone.wav,,,", "missing", "gone.wav"),
        ("x,a.wav,soon,,", "unreadable", "the start is 'soon'"),
        ("x,a.wav,1,0,", "unreadable", "the duration is 0 s, expected more"),
        ("x,a.wav,,0,", "unreadable", "the duration is '0', expected more"),
        ("x,a.wav,1,3,2", "unreadable", "the start, 1 s, the end, 2 s, and the duration, 3 s,"),
        ("x,a.wav,-1,,", "unreadable", "the start is '-1'"),
        ("x,a.wav,2,,1", "unreadable", "not after the start"),
        ("x,a.wav,,", "unreadable", "got 4 cells, expected 5"),
        ("../x,a.wav,,,", "unreadable", "part '..'"),
        ("x,../out.wav,,,", "escape", "outside of"),
        ("x,link.wav,,,", "escape", "outside of"),
    ],
)
def test_bad_rows(tmp_path: Path, touch: Touch, row: str, kind: str, reason: str) -> None:
    touch("in/a.wav", "out.wav")
    (tmp_path / "in/link.wav").symlink_to(tmp_path / "out.wav")
    text = f"id,path,start,duration,end\n{row}\ngood,a.wav,,,\n"
    listing = listed(tmp_path / "in/l.csv", text)
    assert [u.id for u in listing.utterances] == ["good"]
    (problem,) = listing.problems
    assert (problem.kind, problem.line) == (kind, 2)
    assert reason in problem.reason
    assert problem.manifest == str(tmp_path / "in/l.csv")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("3", "expected a JSON object"),
        ('{"path": 3}', "the path is 3"),
        ('{"path": {"bytes": ""}}', "the path is {"),
        ('{"path": "a.wav", "id": ["x"]}', "the id is ['x']"),
        ('{"path": "a.wav", "start": true}', "the start is True"),
        ('{"path": "a.wav", "channel": "left"}', "the channel is 'left'"),
        ('{"path": "\\ud800.wav"}', "not UTF-8"),
        ('{"path": "a\\u0000.wav"}', "null"),
    ],
)
def test_bad_json(tmp_path: Path, touch: Touch, line: str, reason: str) -> None:
    touch("a.wav")
    listing = listed(tmp_path / "l.jsonl", f'{{"path": "a.wav"}}\n{line}\n')
    assert [u.id for u in listing.utterances] == ["a"]
    (problem,) = listing.problems
    assert problem.line == 2
    assert reason in problem.reason


def test_a_line_that_is_not_utf_8_is_the_only_one_lost(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    listing = listed(tmp_path / "l.csv", b"id,path\n\xff,a.wav\nb,a.wav\n")
    assert [u.id for u in listing.utterances] == ["b"]
    assert [p.line for p in listing.problems] == [2]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("l.csv", "name,text\n", "has the columns name, text; expected one of path"),
        ("l.csv", "", "has the columns (none)"),
        ("l.jsonl.gz", "no gzip", "cannot read"),
        ("l.parquet", "no parquet", "cannot read"),
        ("l.xlsx", "", "a table is .tsv .csv"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, name: str, text: str, reason: str) -> None:
    with pytest.raises(AudioError) as refusal:
        listed(tmp_path / name, text)
    assert reason in str(refusal.value)


def test_a_parquet_table_of_audio_is_a_data_set(tmp_path: Path) -> None:
    table = pa.table({"audio": [{"bytes": b"", "path": "a.wav"}]})
    parquet.write_table(table, tmp_path / "l.parquet")
    with pytest.raises(AudioError, match="hf-dataset://"):
        list_table(str(tmp_path / "l.parquet"), Scope())


def test_a_header_by_its_columns() -> None:
    assert has_path_column("id\tpath\r\n")
    assert has_path_column("path\n")
    assert has_path_column("ID\tAudio-Path\n")
    assert has_path_column("id;path\n")
    assert not has_path_column("/data/path\n")
    assert not has_path_column("/my,path\n")
    assert not has_path_column("wav\n", "a.wav\t16000\n")
    assert not has_path_column("a.wav\t16000\n")
    assert has_path_column("name\ttext\n")  # no table either, but of a table's kind


def test_objects_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text('\n{"a": 1}\n')
    assert list(json_objects(str(tmp_path / "l.jsonl"))) == [(2, {"a": 1})]
