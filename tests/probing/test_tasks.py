from __future__ import annotations

import json
from pathlib import Path

import pytest

from auricle.corpus.utterance import Segment, Utterance
from auricle.errors import AuricleError
from auricle.probing.tasks import NUM_HALVINGS, TASKS, Fold, check_files, find_table, read_task


def test_each_speaker_of_the_phones_is_tested_once_by_the_others(librispeech: Path) -> None:
    task = read_task("phones", librispeech)
    assert task.labels_frames
    assert [fold.name for fold in task.folds] == ["speaker 0", "speaker 1", "speaker 2"]
    for speaker, fold in enumerate(task.folds):
        tested = {Path(task.utterances[index].source).parent.name for index in fold.test}
        trained = {Path(task.utterances[index].source).parent.name for index in fold.train}
        assert tested == {str(speaker)}
        assert trained == {"0", "1", "2"} - tested
        assert len(fold.train) + len(fold.test) == len(task.utterances) == 6


def test_phones_are_segments_in_seconds(librispeech: Path) -> None:
    utterance = read_task("phones", librispeech).utterances[0]
    assert utterance.source == str(librispeech / "train/0/0-0.wav")
    assert utterance.segments[:2] == (
        Segment(label="A", start=0.0, end=0.2),
        Segment(label="B", start=0.2, end=0.4),
    )


def test_words_keep_the_splits_of_the_manifest(arabic_words: Path) -> None:
    task = read_task("words", arabic_words)
    (fold,) = task.folds
    paths = [Path(utterance.source).parent.name for utterance in task.utterances]
    assert {paths[index] for index in fold.train} == {"0", "1", "2"}
    assert {paths[index] for index in fold.test} == {"4"}
    assert len(task.utterances) == 8  # `val` is not even read
    assert {task.utterances[index].labels["word"] for index in fold.test} == {"low", "high"}


def test_each_half_of_every_speaker_is_held_out(librispeech: Path) -> None:
    task = read_task("speakers", librispeech)
    assert len(task.folds) == 2 * NUM_HALVINGS
    for one, other in zip(task.folds[::2], task.folds[1::2], strict=True):
        assert (one.train, one.test) == (other.test, other.train)
        assert sorted(one.train + one.test) == list(range(18))
        labels = sorted(task.utterances[index].labels["speaker"] for index in one.test)
        assert labels == sorted(3 * "xyz")


def test_halvings_differ_and_follow_the_seed(librispeech: Path) -> None:
    folds = read_task("speakers", librispeech, seed=1).folds
    assert folds == read_task("speakers", librispeech, seed=1).folds
    assert folds != read_task("speakers", librispeech, seed=2).folds
    assert len({fold.test for fold in folds}) > 2


def test_the_folder_above_the_corpora_does_too(librispeech: Path, arabic_words: Path) -> None:
    for task in TASKS:
        assert read_task(task, librispeech.parent).name == task
    assert arabic_words.parent == librispeech.parent


def test_an_unknown_task_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(AuricleError, match="no task 'emotion'.*phones, words, speakers"):
        read_task("emotion", tmp_path)


def test_a_fold_never_tests_what_it_trains_on() -> None:
    with pytest.raises(ValueError, match="fold a tests utterances that it trains on"):
        Fold(name="a", train=(0, 1), test=(1, 2))


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("task", "table", "old", "new", "message"),
    [
        ("phones", "phones.tsv", "B\t20\t20", "B\t10\t20", "overlap at 0.1 s: A and B"),
        ("phones", "phones.tsv", "B\t20\t20", "B\t-1\t20", "starts at '-1'"),
        ("phones", "phones.tsv", "B\t20\t20", "B\t20\t0", "lasts '0'"),
        ("phones", "manifest.tsv", "train/1/1-0.wav", "train/1/other.wav", "lacks train/1/1-0"),
        ("phones", "manifest.tsv", "\ttrain\t1\n", "\ttrain\t0\n", None),
        ("speakers", "manifest.tsv", "\tspeakers\t", "\ttest\t", "0 rows of split speakers"),
    ],
)
def test_tables_that_contradict_themselves(
    librispeech: Path, task: str, table: str, old: str, new: str, message: str | None
) -> None:
    _edit(librispeech / table, old, new)
    if message is None:
        assert len(read_task(task, librispeech).folds) == 2
        return
    with pytest.raises(AuricleError, match=message):
        read_task(task, librispeech)


def test_one_speaker_of_phones_or_one_split_of_words_is_too_little(
    librispeech: Path, arabic_words: Path
) -> None:
    _edit(librispeech / "manifest.tsv", "\ttrain\t1\n", "\ttrain\t0\n")
    _edit(librispeech / "manifest.tsv", "\ttrain\t2\n", "\ttrain\t0\n")
    with pytest.raises(AuricleError, match="phones of 1 speaker"):
        read_task("phones", librispeech)
    _edit(arabic_words / "manifest.tsv", "\ttest\t", "\tval\t")
    with pytest.raises(AuricleError, match="both splits, train and test"):
        read_task("words", arabic_words)


def test_a_table_is_found_in_the_corpus_and_above_it(tmp_path: Path) -> None:
    inner = tmp_path / "corpus" / "t.tsv"
    inner.parent.mkdir()
    inner.touch()
    assert find_table("words", tmp_path, "t.tsv", "corpus") == inner
    assert find_table("words", tmp_path / "corpus", "t.tsv", "corpus") == inner
    outer = tmp_path / "t.tsv"
    outer.touch()
    assert find_table("words", tmp_path, "t.tsv", "corpus") == outer


@pytest.mark.parametrize(
    ("task", "table", "columns"),
    [
        ("phones", "phones.tsv", "phone, start_frame_10ms, frames"),
        ("words", "manifest.tsv", "path, split .* word"),
        ("speakers", "manifest.tsv", "path, split, .* speaker"),
    ],
)
def test_a_folder_of_audio_alone_gets_the_files_and_columns_of_the_task(
    task: str, table: str, columns: str, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").touch()
    message = rf"task {task} needs labels, and .* has no {table}; expected as --data .*{columns}"
    with pytest.raises(AuricleError, match=message) as caught:
        read_task(task, tmp_path)
    assert "docs/probing.md" in str(caught.value)


def test_missing_audio_is_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    a, b, c = (Utterance(id=name, source=str(tmp_path / f"{name}.wav")) for name in "abc")
    check_files([a], "list")
    with pytest.raises(AuricleError, match=r"2 of the 3 files.*first of them .*b\.wav"):
        check_files([a, b, c], "list")


def test_any_list_with_the_labels_is_a_corpus(arabic_words: Path, tmp_path: Path) -> None:
    expected = read_task("words", arabic_words)
    lines = (arabic_words / "manifest.tsv").read_text().splitlines()
    rows = [
        dict(zip(("audio", "split", "word"), row.split("\t"), strict=True)) for row in lines[1:]
    ]
    for row in rows:
        row["audio"] = f"{arabic_words}/{row['audio']}"
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = read_task("words", tmp_path / "list.jsonl")
    assert task.folds == expected.folds
    assert [one.source for one in task.utterances] == [one.source for one in expected.utterances]
    assert [one.labels["word"] for one in task.utterances] == [
        one.labels["word"] for one in expected.utterances
    ]
    (tmp_path / "bare.csv").write_text(f"path,word\n{rows[0]['audio']},low\n")
    with pytest.raises(AuricleError, match=r"lacks the column\(s\) split; it has path, word"):
        read_task("words", tmp_path / "bare.csv")
    (tmp_path / "gap.csv").write_text(f"path,split,word\n{rows[0]['audio']},train,\n")
    with pytest.raises(AuricleError, match="expected a value in split, word"):
        read_task("words", tmp_path / "gap.csv")


def test_a_kaldi_folder_has_speakers_and_phones_beside_its_files(tmp_path: Path) -> None:
    names = [f"{speaker}-{take}" for speaker in "xy" for take in range(2)]
    for name in names:
        (tmp_path / f"{name}.wav").touch()
        (tmp_path / f"{name}.ctm").write_text(f"{name} 1 0.5 0.25 S\n{name} 1 0.75 0.5 OW\n")
    (tmp_path / "wav.scp").write_text("".join(f"{name} {name}.wav\n" for name in names))
    (tmp_path / "utt2spk").write_text("".join(f"{name} {name[0]}\n" for name in names))
    assert len(read_task("speakers", tmp_path).utterances) == 4
    task = read_task("phones", tmp_path)
    assert [fold.test for fold in task.folds] == [(0, 1), (2, 3)]
    assert task.utterances[3].segments[1] == Segment(label="OW", start=0.75, end=1.25)
    (tmp_path / "x-1.ctm").unlink()
    with pytest.raises(AuricleError, match=r"x-1 has no phones: expected .*x-1\.TextGrid or \.ctm"):
        read_task("phones", tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        ("0.81 0.06 p30", "0.87 0.20 p3", False),
        ("0.810 0.061 p30", "0.870 0.200 p3", False),
        ("0.81 0.07 p30", "0.87 0.20 p3", True),
    ],
)
def test_phones_that_overlap_by_rounding_alone_touch(
    first: str, second: str, is_refused: bool, tmp_path: Path
) -> None:
    rows = ["path\tspeaker"]
    for name in "xy":
        (tmp_path / f"{name}.wav").touch()
        (tmp_path / f"{name}.ctm").write_text(f"{name} 1 {first}\n{name} 1 {second}\n")
        rows.append(f"{name}.wav\t{name}")
    (tmp_path / "list.tsv").write_text("\n".join(rows))
    if is_refused:
        with pytest.raises(AuricleError, match=r"overlap at 0\.87 s: p30 and p3"):
            read_task("phones", tmp_path / "list.tsv")
        return
    task = read_task("phones", tmp_path / "list.tsv")
    assert [one.label for one in task.utterances[0].segments] == ["p30", "p3"]
