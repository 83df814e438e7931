from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

import auricle
from auricle.errors import AuricleError
from auricle.probing.own_labels import read_own_task

PITCHES = {"low": 300.0, "high": 2000.0}
SAMPLES = 1600


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Twelve tones of 0.1 s, low and high in turn, three by each of four speakers."""
    folder = tmp_path / "audio"
    time = np.arange(SAMPLES) / 16_000
    for index in range(12):
        pitch = PITCHES[("low", "high")[index % 2]]
        noise = np.random.default_rng(index).standard_normal(SAMPLES)
        path = folder / f"spk{index // 3}" / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * noise, 16_000)
    return folder


def rows_of(**more: Callable[[int], object]) -> list[dict[str, object]]:
    """A row for each file: its path below the folder of the audio, its label, further columns."""
    return [
        {
            "file": f"spk{index // 3}/{index}.wav",
            "label": ("low", "high")[index % 2],
            **{name: cell(index) for name, cell in more.items()},
        }
        for index in range(12)
    ]


def table(path: Path, rows: list[dict[str, object]]) -> Path:
    """A table of the format that the name asks for."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [rows[0], *(row.values() for row in rows)]
        path.write_text("\n".join(mark.join(map(str, line)) for line in lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_labels_of_files_are_joined_to_the_audio(
    audio: Path, tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of()[:-2]
    own = read_own_task(table(tmp_path / f"t{suffix}", rows), [audio])
    assert [one.labels["label"] for one in own.task.utterances] == ["low", "high"] * 5
    assert [Path(one.source).name for one in own.task.utterances] == [f"{k}.wav" for k in range(10)]
    assert "2 of 12 utterances have no label" in caplog.text
    assert own.unit == "utterance"
    assert "stratified by label, not grouped; 3 seed(s) from 0" in own.split
    assert len(own.task.folds) == 15
    for seed in range(3):  # each utterance is tested once, each fold has both labels
        folds = own.task.folds[5 * seed : 5 * seed + 5]
        assert sorted(index for fold in folds for index in fold.test) == list(range(10))
        assert all({index % 2 for index in fold.test} == {0, 1} for fold in folds)
    assert own.task.folds[:5] != own.task.folds[5:10]


@pytest.mark.parametrize("name", ["id", "path", "utt", "file"])
def test_names_are_ids_or_the_last_parts_of_paths(audio: Path, tmp_path: Path, name: str) -> None:
    rows: list[dict[str, object]] = [
        {name: f"{index}{'.wav' * (name == 'path')}", "emotion": "ab"[index % 2]}
        for index in range(12)
    ]
    if name == "file":  # as `find .` in the audio's folder writes paths
        rows = [{**row, "file": f"./spk{k // 3}/{k}.wav"} for k, row in enumerate(rows)]
    own = read_own_task(table(tmp_path / "t.csv", rows), [audio], column="Emotion")
    assert [one.id for one in own.task.utterances] == [f"spk{k // 3}/{k}" for k in range(12)]
    assert own.task.name == "emotion"


def test_a_table_beside_its_audio_needs_no_input_and_may_state_the_split(
    audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = ["train"] * 8 + ["Test"] * 3 + ["val"]
    own = read_own_task(table(audio / "t.csv", rows_of(split=splits.__getitem__)))
    (fold,) = own.task.folds
    assert (fold.train, fold.test) == (tuple(range(8)), (8, 9, 10))
    assert own.split == "the column split: 8 to train on, 3 to test"
    assert "1 utterances of the split dev are not used" in caplog.text


def test_no_group_is_in_training_and_test(
    audio: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = table(tmp_path / "t.csv", rows_of(speaker=lambda index: f"s{index // 3}"))
    own = read_own_task(path, [audio], group="speaker", num_folds=4, num_seeds=2)
    for fold in own.task.folds:
        assert not {k // 3 for k in fold.train} & {k // 3 for k in fold.test}
        assert len(fold.test) == 3
    assert own.units == tuple(f"s{k // 3}" for k in range(12))
    assert "4 folds of 4 speakers" in own.split
    assert "no speaker in training and test at once" in own.split
    assert caplog.text == ""
    read_own_task(path, [audio])
    assert "--group speaker keeps" in caplog.text


def test_segments_of_a_file_stay_together_unless_asked_for(audio: Path, tmp_path: Path) -> None:
    rows = [
        {**row, "start_ms": start, "end_ms": start + 40} for row in rows_of() for start in (0, 50)
    ]
    path = table(tmp_path / "t.csv", rows)
    own = read_own_task(path, [audio], num_folds=3, num_seeds=1)
    assert [(one.start, one.seconds) for one in own.task.utterances[:2]] == [
        (0.0, pytest.approx(0.04)),
        (pytest.approx(0.05), pytest.approx(0.04)),
    ]
    assert own.unit == "recording"
    for fold in own.task.folds:
        assert not {k // 2 for k in fold.train} & {k // 2 for k in fold.test}
    alone = read_own_task(path, [audio], group="utterance", num_folds=3, num_seeds=1)
    assert alone.unit == "utterance"
    assert len(set(alone.units)) == 24


def test_numbers_are_predicted_when_asked_for_and_never_guessed(
    audio: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = table(tmp_path / "t.csv", rows_of(age=lambda index: 20.5 + index))
    own = read_own_task(path, [audio], column="age", is_regression=True)
    assert own.is_regression
    assert "at random" in own.split
    many = [{"file": row["file"], "start": k / 100, "end": k / 100 + 0.05, "label": 0.5 + 3 * n + k}
            for n, row in enumerate(rows_of()) for k in range(2)]  # fmt: skip
    with pytest.raises(AuricleError, match="24 different numbers.*pass --regression"):
        read_own_task(table(tmp_path / "many.csv", many), [audio])
    whole = [{**row, "label": int(n % 21)} for n, row in enumerate(many * 2)]
    for n, row in enumerate(whole):
        row["end"] = float(str(row["start"])) + 0.02 + 0.001 * n
    read_own_task(table(tmp_path / "whole.csv", whole), [audio], num_folds=2)
    assert "21 numbers are taken for classes; --regression" in caplog.text


def test_one_recording_by_several_paths_is_one(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(audio, target_is_directory=True)
    own_paths = [{**row, "file": f"{audio}/{row['file']}"} for row in rows_of()]
    again = [{**own_paths[0], "file": f"{tmp_path}/link/./spk0/0.wav"}]
    with pytest.raises(AuricleError, match="twice, as 'low' and 'low'"):
        read_own_task(table(tmp_path / "a.csv", own_paths + again))
    parts = [
        {**row, "file": f"{folder}/{row['file']}", "start": start, "end": start + 0.05}
        for row in rows_of()
        for folder, start in ((audio, 0.0), (tmp_path / "link", 0.05))
    ]
    own = read_own_task(table(tmp_path / "b.csv", parts))
    assert (own.unit, len(set(own.units))) == ("recording", 12)


def test_a_column_utterance_groups_as_any_other(audio: Path, tmp_path: Path) -> None:
    rows = rows_of(utterance=lambda index: index // 3)
    own = read_own_task(table(tmp_path / "t.csv", rows), [audio], group="utterance", num_folds=2)
    for fold in own.task.folds:
        assert not {own.units[i] for i in fold.train} & {own.units[i] for i in fold.test}


def test_segments_take_the_split_of_their_recording(audio: Path, tmp_path: Path) -> None:
    parts = [
        {**row, "start": start, "end": start + 0.05} for row in rows_of() for start in (0.0, 0.05)
    ]
    labels = table(tmp_path / "parts.csv", parts)
    splits = [{"id": k, "split": ("train", "test")[k > 7]} for k in range(12)]
    own = read_own_task(labels, [audio], splits=table(tmp_path / "s.csv", splits))
    assert own.split == "the column split: 16 to train on, 8 to test"
    twice = table(tmp_path / "s.csv", [*splits, {"id": 3, "split": "test"}])
    with pytest.raises(AuricleError, match="line 14: '3' has another split than in a line before"):
        read_own_task(labels, [audio], splits=twice)


def test_labels_that_no_training_has_are_logged(
    audio: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of(split=lambda index: ("train", "test")[index > 7])
    read_own_task(table(tmp_path / "t.csv", [*rows[:-1], {**rows[-1], "label": "x"}]), [audio])
    assert "1 labels, such as 'x', are tested where training has none" in caplog.text


BAD = [
    ({"column": "mood"}, lambda r: r, "no column 'mood', but file, label.*--label-column"),
    ({}, lambda r: [{**r[0], "file": "none.wav"}, *r[1:]], "1 of 12 names that the audio lacks.*'none.wav' in line 2"),
    ({}, lambda r: [*r[:-1], {**r[0], "label": "high"}], "twice, as 'low' and 'high': leave one row"),
    ({}, lambda r: [*r[:-1], {**r[-1], "label": "NaN"}], "1 of 12 rows without a value .* line 13"),
    ({}, lambda r: [{**row, "label": "x"} for row in r], "12 labels of 1 value.s., 'x'; expected 2"),
    ({}, lambda r: [{**row, "split": "trian"} for row in r], "12 rows with another split than train, test or dev, such as 'trian'"),
    ({}, lambda r: [{**row, "split": "train"} for row in r], "12 rows of train and 0 of test"),
    ({"group": "speaker"}, lambda r: r, "no column 'speaker' for --group.*file, label"),
    ({"group": "g"}, lambda r: [{**row, "g": k % 3} for k, row in enumerate(r)], "got 3 g.s. for 5 folds.*fewer --folds"),
    ({"group": "g"}, lambda r: [{**row, "g": ""} for row in r], "12 of 12 labelled utterances have no value in the column 'g'"),
    ({"group": "g"}, lambda r: [{**row, "g": k % 3, "split": ("train", "test")[k // 6]} for k, row in enumerate(r)], "3 values of g in train and test, such as '0'"),
    ({"num_folds": 7}, lambda r: r, "'(high|low)' has 6 example.s. for 7 folds"),
    ({"num_folds": 1}, lambda r: r, "for 1 folds"),
    ({"group": "label"}, lambda r: r, "--group names the column of the labels, 'label'"),
    ({"group": "g", "num_folds": 2}, lambda r: [{**row, "g": k % 2} for k, row in enumerate(r)], "gs and labels allow no 2 folds: one of them tests 6 examples and trains on 6 of fewer than two"),
    ({"is_regression": True}, lambda r: r, "12 labels that are no finite numbers, such as 'low'"),
    ({"tier": "phones"}, lambda r: r, "table and has no tiers"),
    ({"num_seeds": 0}, lambda r: r, "got 0 seeds from 0 .* expected 1 or more"),
    ({}, lambda r: [{**row, "label": k + 0.5} for k, row in enumerate(r)], "12 different numbers.*--regression"),
    ({}, lambda r: [{**row, "label": "abb"[k % 3], "split": ("train", "test", "test")[k % 3]} for k, row in enumerate(r)], "training part of test has the label.s. 'a', expected 2"),
    ({"group": "recording"}, lambda r: [{**row, "recording": k % 3, "split": ("train", "test")[k // 6]} for k, row in enumerate(r)], "3 values of recording in train and test"),
    ({"group": "g", "num_folds": 3}, lambda r: [{**row, "g": ("e\u0301", "\u00e9 ", " \u00e9", "f")[k % 4]} for k, row in enumerate(r)], "got 2 g.s. for 3 folds"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "change", "message"), BAD)
def test_wrong_labels_are_refused_with_advice(
    audio: Path,
    tmp_path: Path,
    options: dict[str, object],
    change: Callable[[list[dict[str, object]]], list[dict[str, object]]],
    message: str,
) -> None:
    path = table(tmp_path / "t.csv", change(rows_of()))
    with pytest.raises(AuricleError, match=message):
        read_own_task(path, [audio], **options)  # type: ignore[arg-type] # of one call each


def test_audio_is_needed_where_the_labels_name_no_paths(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [{"id": "a", "label": 1}, {"id": "b", "label": 2}])
    with pytest.raises(AuricleError, match="pass the audio too, as in `auricle probe audio/"):
        read_own_task(path)


@pytest.fixture
def alignment(tmp_path: Path) -> Path:
    """Kaldi's ids of ten frames for eleven of the files, and for one that is not there."""
    names = [f"spk{index // 3}/{index}" for index in range(11)] + ["stranger"]
    lines = [f"{name} {'1 ' * 5}{' '.join(['2'] * 5)}" for name in names]
    path = tmp_path / "ali.1.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_frames_take_splits_and_groups_from_a_table(
    audio: Path, alignment: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = read_own_task(alignment, [audio])
    assert (own.task.name, own.task.target, len(own.task.utterances)) == ("frames", None, 11)
    assert "1 of 12 utterances have no label" in caplog.text
    assert "1 labels, such as 'stranger', have no audio" in caplog.text
    rows = rows_of(
        speaker=lambda index: index // 3, split=lambda index: ("train", "test")[index // 6]
    )
    splits = table(tmp_path / "splits.csv", rows)
    own = read_own_task(alignment, [audio], splits=splits, group="speaker")
    assert own.task.folds[0].test == tuple(range(6, 11))
    assert own.unit == "speaker"
    short = table(tmp_path / "short.csv", rows[:4])
    with pytest.raises(AuricleError, match="lacks 7 of 11 labelled utterances"):
        read_own_task(alignment, [audio], splits=short)


def test_probing_gives_scores_json_and_a_frame(audio: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", rows_of(speaker=lambda index: index // 3))
    report = auricle.probe_labels(
        path, audio, models="fbank", group="speaker", folds=2, seeds=1, device="cpu"
    )
    frame = report.to_pandas()
    assert list(frame["layer"]) == ["features"]
    assert frame["accuracy"][0] == frame["macro_f1"][0] == frame["accuracy_low"][0] == 1.0
    assert frame["accuracy_baseline"][0] <= 0.5
    assert json.loads(report.to_json())["settings"]["unit"] == "speaker"
    encoder = auricle.load("fbank")
    again = auricle.probe_labels(
        path, audio, models=encoder, layers="all", group="speaker", folds=2, seeds=1
    )
    assert again == msgspec.structs.replace(report, results=again.results)
    assert again.results[0].layers == report.results[0].layers
    for models in ([], [encoder, "fbank"]):
        with pytest.raises(AuricleError, match="models are .*expected one or more, of different"):
            auricle.probe_labels(path, audio, models=models)


def test_other_audio_of_the_same_names_has_another_digest(audio: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", rows_of())
    first = read_own_task(path, [audio]).audio_sha256
    copy = shutil.copytree(audio, tmp_path / "copy")
    assert read_own_task(path, [copy]).audio_sha256 == first
    soundfile.write(copy / "spk0/0.wav", np.zeros(SAMPLES), 16_000)
    assert read_own_task(path, [copy]).audio_sha256 != first
