from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from auricle.corpus.labels import read_alignments
from auricle.corpus.utterance import Segment
from auricle.errors import AudioError


def test_runs_of_ids_are_segments(tmp_path: Path) -> None:
    path = tmp_path / "phones.ali"
    path.write_text("a 5 5 7\n\nb 1\n")
    expected = {
        "a": (Segment(start=0.0, end=0.06, label="5"), Segment(start=0.06, end=0.09, label="7")),
        "b": (Segment(start=0.0, end=0.03, label="1"),),
    }
    assert read_alignments(path, 0.03) == expected
    packed = tmp_path / "ali.1.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_alignments(packed, 0.03) == expected


def test_a_ctm_has_many_utterances(tmp_path: Path) -> None:
    path = tmp_path / "all.ctm.gz"
    path.write_bytes(gzip.compress(b"a 1 0.5 0.1 x 0.9\nb 1 0 1 y\na 1 0.6 0.1 z\n"))
    found = read_alignments(path, 0.01)
    assert {name: [one.label for one in found[name]] for name in found} == {
        "a": ["x", "z"],
        "b": ["y"],
    }


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.ali", b"utt 1 4 ; 2 7 ;\n", "line 1: got 'utt 1 4 ; 2 7 ;'.*per-frame=true"),
        ("a.ali", b"utt\n", "line 1: got 'utt'"),
        ("a.ali", b"utt 1\nutt 1\n", "line 2: got the same utterance again"),
        ("a.ali", b"\n", "holds no labels"),
        ("a.ark", b"utt \0B\x04\xff\xfe", "is no text in UTF-8.*ark,t:"),
        ("a.gz", b"utt 1\n", "cannot open"),
        ("a.ctm", b"a 1 0 1 x\na 2 0 1 y\n", "channels '1' and '2' of a"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(AudioError, match=message):
        read_alignments(path, 0.01)
    with pytest.raises(AudioError, match="cannot open"):
        read_alignments(tmp_path / "none.ali", 0.01)
