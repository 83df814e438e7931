from __future__ import annotations

from pathlib import Path

import pytest

from auricle.corpus.utterance import Segment
from auricle.errors import AuricleError
from auricle.probing.tasks import NUM_HALVINGS, TASKS, Fold, read_task


def test_each_speaker_of_the_phones_is_tested_once_by_the_others(librispeech: Path) -> None:
    task = read_task("phones", librispeech)
    assert task.labels_frames
    assert [fold.name for fold in task.folds] == ["speaker 0", "speaker 1", "speaker 2"]
    for speaker, fold in enumerate(task.folds):
        tested = {task.utterances[index].path.parent.name for index in fold.test}
        trained = {task.utterances[index].path.parent.name for index in fold.train}
        assert tested == {str(speaker)}
        assert trained == {"0", "1", "2"} - tested
        assert len(fold.train) + len(fold.test) == len(task.utterances) == 6


def test_phones_are_segments_in_seconds(librispeech: Path) -> None:
    utterance = read_task("phones", librispeech).utterances[0]
    assert utterance.path == librispeech / "train/0/0-0.wav"
    assert utterance.segments[:2] == (
        Segment(label="A", start=0.0, end=0.2),
        Segment(label="B", start=0.2, end=0.4),
    )


def test_words_keep_the_splits_of_the_manifest(arabic_words: Path) -> None:
    task = read_task("words", arabic_words)
    (fold,) = task.folds
    paths = [utterance.path.parent.name for utterance in task.utterances]
    assert {paths[index] for index in fold.train} == {"0", "1", "2"}
    assert {paths[index] for index in fold.test} == {"4"}
    assert len(task.utterances) == 8  # `val` is not even read
    assert {task.utterances[index].label for index in fold.test} == {"low", "high"}


def test_each_half_of_every_speaker_is_held_out(librispeech: Path) -> None:
    task = read_task("speakers", librispeech)
    assert len(task.folds) == 2 * NUM_HALVINGS
    for one, other in zip(task.folds[::2], task.folds[1::2], strict=True):
        assert (one.train, one.test) == (other.test, other.train)
        assert sorted(one.train + one.test) == list(range(18))
        labels = sorted(task.utterances[index].label for index in one.test)
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
