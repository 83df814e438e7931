"""Tables as programs write them: names of columns, times in samples, odd rows."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet

from auricle.corpus.tables import list_table
from auricle.corpus.utterance import Listing, Scope
from auricle.errors import AudioError
from corpus.conftest import listed, rows_of

Touch = Callable[..., list[Path]]


def spans(listing: Listing) -> list[tuple[str, float, float | None]]:
    assert listing.problems == []
    return [(u.id, u.start, u.seconds) for u in listing.utterances]


@pytest.mark.parametrize(
    "text",
    [
        "path,id,start,end\na.wav,u1,1,2.5\n",
        "path,id,start,stop\na.wav,u1,1.0,2.5\n",
        "path,id,begin,end\na.wav,u1,1.0,2.5\n",
        "path,id,Start Time,endTime\na.wav,u1,1.0,2.5\n",
        "path,id,onset,offset\na.wav,u1,1.0,2.5\n",
        "path,id,offset,duration\na.wav,u1,1.0,1.5\n",
        "path,id,xmin,xmax\na.wav,u1,1.0,2.5\n",
        "path,id,START,Dur\na.wav,u1,1.0,1.5\n",
        "path,id,start (ms),end[ms]\na.wav,u1,1000,2500\n",
        "path,id,segment_start_sec,duration_in_seconds\na.wav,u1,1,1.5\n",
        " path , id , start , end \n a.wav , u1 , 1.0 , 2.5 \n",
        'path, id, start, end\n"a.wav", "u1", "1.0", "2.5"\n',
        "\ufeffFile_Name;Utt-ID;start;end\na.wav;u1;1.0;2.5\n",
        "file\tkey\tstart\tend\na.wav\tu1\t1.0\t2.5\n",
        "path,id,start,end,duration\na.wav,u1,1.0,2.5,1.5\n",
        "path,id,start,end,duration\na.wav,u1,1.0,2.5,NaN\n",
        "path,file_name,id,utt_id,start,offset,end\n./a.wav,a.wav,u1,u1,1.0,1,2.5\n",
    ],
)
def test_names_of_columns_however_they_are_spelt(tmp_path: Path, touch: Touch, text: str) -> None:
    touch("a.wav")
    assert spans(listed(tmp_path / "l.csv", text)) == [("u1", 1.0, 1.5)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"start": 1, "begin": 1.5}, "start 1 and begin 1.5 claim the same time and disagree"),
        ({"start": 1, "offset": 2}, "start 1 and offset 2 claim"),
        ({"id": "x", "utt_id": "y"}, "id 'x' and utt_id 'y' both name the id and disagree"),
        ({"file": "b.wav"}, "path 'a.wav' and file 'b.wav' both name the path"),
        ({"channel": 0, "ch": 1}, "channel 0 and ch 1 both name the channel"),
        ({"start": 1, "end": 2, "duration": 3}, "disagree"),
        ({"frame_offset": 10, "num_frames": 5}, "whose frames may be of any length"),
        ({"start": "00:01"}, "the start is '00:01', expected 0 or more seconds, such as 90 or 1.5"),
        ({"end_ms": -1}, "the end is -1, expected 0 or more seconds"),
        ({"start": float("inf")}, "the start is inf"),
    ],
)
def test_columns_that_contradict_each_other(
    tmp_path: Path, touch: Touch, row: dict[str, object], reason: str
) -> None:
    touch("a.wav", "b.wav")
    listing = listed(tmp_path / "l.jsonl", json.dumps({"path": "a.wav", **row}))
    assert listing.utterances == []
    assert reason in listing.problems[0].reason


def test_tables_as_programs_write_them(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    packed = gzip.compress(b"path,id,channel\na.wav,u1,1.0\n")
    assert rows_of(listed(tmp_path / "l.csv.gz", packed)) == [("u1", 0.0, None, 1)]
    quoted = '"path"\t"id"\t"start"\n"a.wav"\t"u1"\t"1"\n'
    assert rows_of(listed(tmp_path / "l.tsv", quoted)) == [("u1", 1.0, None, None)]
    with pytest.raises(AudioError, match="is UTF-16, as some spreadsheets write: save it as UTF-8"):
        listed(tmp_path / "l.csv", "path,id\na.wav,u1\n".encode("utf-16"))


def test_a_column_that_comes_twice(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="2 columns 'start'"):
        listed(tmp_path / "l.csv", "path,start,start\na.wav,1,2\n")


@pytest.mark.parametrize("cell", ["", "NaN", "nan", "NA", "null", "None", " "])
def test_cells_of_numbers_without_a_value(tmp_path: Path, touch: Touch, cell: str) -> None:
    touch("a.wav")
    listing = listed(tmp_path / "l.csv", f"path,start,end,channel\na.wav,{cell},{cell},{cell}\n")
    assert rows_of(listing) == [("a", 0.0, None, None)]


def test_what_is_passed_over_is_named_once(
    tmp_path: Path, touch: Touch, caplog: pytest.LogCaptureFixture
) -> None:
    touch("a.wav", "b.wav")
    text = "path,segment_id,speaker_id,text,timestamp,n_frames\na.wav,1,s,t,3,9\nb.wav,2,s,t,4,9\n"
    with caplog.at_level(logging.WARNING):
        listed(tmp_path / "l.csv", text)
    (record,) = caplog.records
    assert "'segment_id', 'timestamp', 'n_frames'" in record.getMessage()
    assert "speaker_id" not in record.getMessage()
    caplog.clear()
    listed(tmp_path / "l.csv", "path,speaker_id,text,split,sampling_rate\na.wav,s,t,train,16000\n")
    assert caplog.records == []


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Five seconds at 8 kHz."""
    soundfile.write(tmp_path / "a.wav", np.zeros(40_000), 8_000)
    return tmp_path


@pytest.mark.parametrize(
    ("columns", "row", "expected"),
    [
        ("path,id,start_samples,end_samples", "a.wav,u1,8000,12000", (1.0, 0.5)),
        ("path,id,sample_start,num_samples", "a.wav,u1,8000,12000", (1.0, 1.5)),
        ("path,id,start_sample,duration", "a.wav,u1,8000,1.25", (1.0, 1.25)),
        ("ID,duration,wav,start,stop,spk_id", "u1,5.0,a.wav,0,8000,s", (0.0, 1.0)),
        ("ID,duration,wav,start,stop,spk_id", "u1,1.5,$data_root/a.wav,8000,20000,s", (1.0, 1.5)),
        ("ID,duration,wav,start,stop", "u1,5.0,a.wav,8000.0,16000.0", (1.0, 1.0)),
        ("ID,duration,wav,start,stop", "u1,5.0,a.wav,1.0,2.0", (1.0, 1.0)),
        ("ID,wav,start,stop", "u1,a.wav,0.5,2", (0.5, 1.5)),
    ],
)
def test_times_in_samples(
    audio: Path, columns: str, row: str, expected: tuple[float, float]
) -> None:
    assert spans(listed(audio / "l.csv", f"{columns}\n{row}\n")) == [("u1", *expected)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("u1,5,a.wav,1,3", "start 1, stop 3 may count seconds or, as SpeechBrain does, samples"),
        ("u1,5,a.wav,0,50000", "reach past the end of the file, of 5 s and 40000 samples"),
        ("u1,5,a.wav,0.5,7.5", "reach past the end of the file"),
        ("u1,3,a.wav,0,8000", "the end, 1 s, and the duration, 3 s, disagree"),
        ("u1,5,a.wav,9000,8000", "is not after the start"),
        ("u1,5,l.csv,0,8000", "whose rate the file must tell"),
    ],
)
def test_samples_that_are_none(audio: Path, row: str, reason: str) -> None:
    listing = listed(audio / "l.csv", f"ID,duration,wav,start,stop\n{row}\n")
    assert listing.utterances == []
    assert reason in listing.problems[0].reason


def test_json_of_speechbrain(audio: Path) -> None:
    entries = {
        "u1": {"wav": "{data_root}/a.wav", "length": 5.0, "words": "x"},
        "u2": {"wav": {"file": "a.wav", "start": 8000, "stop": 12000}, "duration": 0.5},
        "u3": {"wav": {"file": "a.wav", "start": 8000}},
        "u4": {"wav": {"file": "a.wav", "start": 8000, "stop": 8000}},
    }
    expected = [("u1", 0.0, None), ("u2", 1.0, 0.5), ("u3", 1.0, None), ("u4", 1.0, None)]
    for indent in (None, 2):
        listing = listed(audio / "l.json", json.dumps(entries, indent=indent))
        assert spans(listing) == expected
        assert listing.known_seconds == {"u1": 5.0}
    bad = {"u5": {"wav": {"files": ["a.wav", "a.wav"]}}, "u6": {"wav": "a.wav"}}
    listing = listed(audio / "l.json", json.dumps(bad))
    assert [u.id for u in listing.utterances] == ["u6"]
    assert "the path is {'files'" in listing.problems[0].reason


def test_a_placeholder_is_the_root(tmp_path: Path, touch: Touch) -> None:
    touch("data/x/a.wav", "lists/none")
    text = "ID,wav\nu1,$data_root/x/a.wav\nu2,${root}/../b.wav\n"
    listing = listed(tmp_path / "lists/l.csv", text, Scope(root=tmp_path / "data"))
    assert [(u.id, u.source) for u in listing.utterances] == [("u1", f"{tmp_path}/data/x/a.wav")]
    assert listing.problems[0].kind == "missing"


def test_one_json_value_of_rows(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "b.wav")
    rows = [{"id": "x", "path": "a.wav"}, 3, {"id": "y", "audio": {"path": "b.wav", "bytes": None}}]
    listing = listed(tmp_path / "l.json", json.dumps(rows, indent=1))
    assert [u.id for u in listing.utterances] == ["x", "y"]
    assert [(p.line, "got '3'" in p.reason) for p in listing.problems] == [(2, True)]
    assert ids_of(listed(tmp_path / "l.json", json.dumps(rows[0], indent=1))) == ["x"]


def ids_of(listing: Listing) -> list[str]:
    assert listing.problems == []
    return [utterance.id for utterance in listing.utterances]


def test_common_voice(tmp_path: Path, touch: Touch) -> None:
    touch("en/clips/common_voice_en_1.mp3", "en/clips/c.mp3")
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\n"
    text = f'{header}9f\tcommon_voice_en_1.mp3\t7\t"Hi\t2\n9f\tclips/c.mp3\t8\tYou\t0\n'
    listing = listed(tmp_path / "en/train.tsv", text)
    assert ids_of(listing) == ["common_voice_en_1", "clips/c"]
    assert listing.utterances[0].source == f"{tmp_path}/en/clips/common_voice_en_1.mp3"


def test_metadata_of_hugging_face(tmp_path: Path, touch: Touch) -> None:
    touch("data/a.wav")
    assert ids_of(listed(tmp_path / "metadata.csv", "file_name,transcription\ndata/a.wav,x\n"))
    line = '{"file_name": "data/a.wav", "transcription": "x"}\n'
    assert ids_of(listed(tmp_path / "metadata.jsonl", line)) == ["data/a"]


def test_ids_of_a_column_of_numbers_with_gaps(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav", "b.wav")
    parquet.write_table(
        pa.table({"ID": [7.0, None], "Path": ["a.wav", "b.wav"]}), tmp_path / "l.parquet"
    )
    assert ids_of(list_table(str(tmp_path / "l.parquet"), Scope())) == ["7", "b"]


def test_a_name_with_blanks_at_its_ends_is_found(tmp_path: Path, touch: Touch) -> None:
    touch(" a.wav", "b.wav")
    listing = listed(tmp_path / "l.tsv", "id\tpath\nx\t a.wav\ny\tb.wav \n")
    assert [u.source for u in listing.utterances] == [f"{tmp_path}/ a.wav", f"{tmp_path}/b.wav"]


@pytest.mark.parametrize(
    ("rows", "ids", "lines"),
    [
        ('a.wav,u1,"one\nb.wav,u2,two\n', [], [3]),
        ('a.wav,u1,"one\nb.wav,u2,"two"\na.wav,u3,x\n', ["u3"], [3]),
        ('a.wav,u1,"one\ntwo ""three"""\nb.wav,u2,"so" he said\n', ["u1", "u2"], []),
    ],
)
def test_a_quote_that_is_not_closed(
    tmp_path: Path, touch: Touch, rows: str, ids: list[str], lines: list[int]
) -> None:
    touch("a.wav", "b.wav")
    listing = listed(tmp_path / "l.csv", f"path,id,text\n{rows}")
    assert [utterance.id for utterance in listing.utterances] == ids
    assert [problem.line for problem in listing.problems] == lines
    for problem in listing.problems:
        assert "a quote that opens 1 lines before is not closed" in problem.reason


def test_one_end_of_a_part_alone_is_refused(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    (problem,) = listed(tmp_path / "l.csv", "path,speech_start,end\na.wav,1,2\n").problems
    assert "'speech_start' is not, which looks like the other end" in problem.reason


def test_labels_are_all_cells_by_their_columns(tmp_path: Path, touch: Touch) -> None:
    touch("a.wav")
    scope = Scope(with_labels=True)
    expected = {"path": "a.wav", "word": "so", "age": "7"}
    table = pa.table({"path": ["a.wav"], "Word ": ["so"], "age": [7]})
    parquet.write_table(table, tmp_path / "l.parquet")
    for listing in (
        listed(tmp_path / "l.csv", "path,Word ,age\na.wav,so,7\n", scope),
        list_table(str(tmp_path / "l.parquet"), scope),
    ):
        assert [one.labels for one in listing.utterances] == [expected]
    assert not listed(tmp_path / "l.csv", "path,word\na.wav,so\n").utterances[0].labels


def test_without_strictness_paths_and_ids_are_not_checked(tmp_path: Path) -> None:
    text = "id,path\nx,gone.wav\nx,../gone.wav\n/,a.wav\n"
    assert len(listed(tmp_path / "l.csv", text).problems) == 3
    listing = listed(tmp_path / "l.csv", text, Scope(is_strict=False))
    assert [one.id for one in listing.utterances] == ["x", "x", "/"]
    assert listing.problems == []
