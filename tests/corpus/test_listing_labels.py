from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.corpus.listing import label_rows, places_of_rows, with_labels
from auricle.corpus.utterance import Utterance
from auricle.errors import AudioError


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    """A whole file of one second at 8 kHz, and the second half of it."""
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(8000), 8000)
    return [
        Utterance(id="x", source=str(path), labels={"speaker": "s"}),
        Utterance(id="half", source=str(path), start=0.5, seconds=0.5),
    ]


def written(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_give_labels_and_cut_segments(tmp_path: Path, utterances: list[Utterance]) -> None:
    table = written(
        tmp_path / "t.jsonl",
        {"id": "x", "label": "a", "channel": 1},
        {"id": "x", "label": "b", "start_samples": 800, "end_samples": 1600},
        {"id": "half", "label": "c", "start": 0.25},
    )
    found, num_unlabelled = with_labels(utterances, label_rows(table), table)
    assert num_unlabelled == 0
    assert [(one.id, one.start, one.seconds, one.channel) for one in found] == [
        ("x", 0.0, None, 1),
        ("x-000000100-000000200", 0.1, pytest.approx(0.1), None),
        ("half-000000250", 0.75, 0.25, None),
    ]
    assert found[0].labels["label"] == "a"
    assert found[0].labels["speaker"] == "s"


def test_a_path_comes_before_an_id(tmp_path: Path, utterances: list[Utterance]) -> None:
    table = written(tmp_path / "t.jsonl", {"id": "half", "path": "none.wav", "label": 1})
    assert places_of_rows(utterances, label_rows(table), table) == [1]
    table = written(tmp_path / "t.jsonl", {"id": "7", "path": "x.wav", "label": 1})
    with pytest.raises(AudioError, match="'x.wav' means 2 utterances"):
        places_of_rows(utterances, label_rows(table), table)
    assert places_of_rows(utterances[:1], label_rows(table), table) == [0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "half", "start": 0.2, "end": 0.8}, "from 0.2 s leaves half, of 0.5 s"),
        ({"id": "half", "start": 0.6}, "leaves half"),
        ({"id": "none"}, "1 of 1 names that the audio lacks, the first 'none' in line 1"),
        ({"label": "a"}, "the path is None"),
    ],
)
def test_rows_that_name_no_audio_are_refused(
    tmp_path: Path, utterances: list[Utterance], row: dict[str, object], message: str
) -> None:
    table = written(tmp_path / "t.jsonl", row)
    with pytest.raises(AudioError, match=message):
        with_labels(utterances, label_rows(table), table)


def test_tables_name_audio_and_have_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("who;what\na;b\n")
    with pytest.raises(AudioError, match="columns who;what; expected one of path.*or id for ids"):
        label_rows(str(path))
    path.write_text("id;label\n")
    with pytest.raises(AudioError, match="no rows below its line of names"):
        label_rows(str(path))
    path.write_text("id;label\nx;1\n")
    assert [row.id for row in label_rows(str(path))] == ["x"]
