from __future__ import annotations

import logging

import pytest

from auricle.corpus.columns import Meaning, note_passed_over, read_columns


def read(name: str) -> tuple[Meaning, str, float] | None:
    found = [
        (meaning, column) for meaning, all_ in read_columns([name]).of.items() for column in all_
    ]
    return (found[0][0], found[0][1].unit, found[0][1].scale) if found else None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("start", "Start", " BEGIN ", "startTime", "tstart", "offset"), ("start", "seconds", 1.0)),
        (("end", "Stop", "end-time", "xmax", "segment_end"), ("end", "seconds", 1.0)),
        (("start_ms", "Start (ms)", "beginMs", "begin[msec]"), ("start", "seconds", 1e-3)),
        (("stop_sample", "end_samples", "sample_end"), ("end", "samples", 1.0)),
        (("frame_offset", "start_frame"), ("start", "frames", 1.0)),
        (("duration_in_seconds", "dur.", "Length (s)"), ("duration", "seconds", 1.0)),
        (("num_samples", "nsamples", "duration_samples"), ("duration", "samples", 1.0)),
        (("audio_duration",), ("file duration", "seconds", 1.0)),
        (("\ufeffpath", "Audio File Path", "wav_filename"), ("path", "seconds", 1.0)),
        (("ID", "Utt-ID", "uttID", "utterance id"), ("id", "seconds", 1.0)),
        (("speaker_id", "text", "n_frames", "sampling_rate", "/data/path", "text_length"), None),
    ],
)
def test_meanings_and_units(
    names: tuple[str, ...], expected: tuple[Meaning, str, float] | None
) -> None:
    assert {name: read(name) for name in names} == dict.fromkeys(names, expected)


def test_names_that_depend_on_others() -> None:
    columns = read_columns(["path", "onset", "offset"])
    assert [[c.name for c in columns.of[m]] for m in ("start", "end")] == [["onset"], ["offset"]]
    columns = read_columns(["ID", "duration", "wav", "start", "stop"])
    assert {columns.of[m][0].unit for m in ("start", "end")} == {"seconds or samples"}
    columns = read_columns(["id", "path", "start", "stop"])
    assert {columns.of[m][0].unit for m in ("start", "end")} == {"seconds"}


def test_what_looks_like_a_time_or_an_id(caplog: pytest.LogCaptureFixture) -> None:
    names = ["segment_id", "clip_id", "timestamp", "num_frames", "start_min", "from"]
    names += ["t0", "ending", "interval"]
    others = ["client_id", "spk_id", "text", "sentence_id", "down_votes", "age", "token_length"]
    others += ["shard_id"]
    assert list(read_columns([*names, *others]).passed_over) == names
    with caplog.at_level(logging.WARNING):
        note_passed_over(["a", "b", "a"], "l.csv")
        note_passed_over([], "l.csv")
    (record,) = caplog.records
    assert record.getMessage().startswith("l.csv: passed over 'a', 'b', which look like")


@pytest.mark.parametrize(
    ("names", "half"),
    [
        (["path", "speech_start", "end"], ("end", "speech_start")),
        (["path", "start", "turn_end"], ("start", "turn_end")),
        (["path", "start", "duration", "turn_end"], None),
        (["path", "start", "end", "turn_end", "turn_start"], None),
        (["path", "speech_start", "speech_end"], None),
        (["path", "duration", "speech_start"], None),
        (["path", "beg", "end"], None),
    ],
)
def test_one_end_of_a_part_alone(names: list[str], half: tuple[str, str] | None) -> None:
    assert read_columns(names).half == half
