from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auricle.audio.files import read_audio
from auricle.errors import AudioError
from auricle.training.building import Corpus, read_corpus


def write_wav(path: Path, num_samples: int, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(num_samples), rate)


def manifest(folder: Path, text: str) -> Path:
    path = folder / "list.tsv"
    path.write_text(text)
    return path


def found(corpus: Corpus) -> list[tuple[str, int]]:
    return [(utterance.key, utterance.num_samples) for utterance in corpus.utterances]


def test_a_folder_at_any_depth_at_16_khz(tmp_path: Path) -> None:
    write_wav(tmp_path / "b.wav", 100)
    write_wav(tmp_path / "a" / "c.wav", 8_001, rate=8_000)
    (tmp_path / "notes.txt").write_text("x")
    assert found(read_corpus([tmp_path])) == [("a/c.wav", 16_002), ("b.wav", 100)]


def test_a_manifest_is_believed_and_the_files_are_not_opened(tmp_path: Path) -> None:
    path = manifest(tmp_path, 'samples\tpath\ttext\n7\tb.wav\t"x\n9\ta.wav\t\n')
    corpus = read_corpus([path])
    assert found(corpus) == [("a.wav", 9), ("b.wav", 7)]
    assert corpus.utterances[0].utterance.source == str(tmp_path / "a.wav")


def test_a_manifest_without_samples(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 321)
    assert found(read_corpus([manifest(tmp_path, "path\na.wav\n")])) == [("a.wav", 321)]


def test_names_of_columns_without_case_and_blanks(tmp_path: Path) -> None:
    path = manifest(tmp_path, "\ufeffPath\tSplit \t Samples\na.wav\ttrain\t5\n")
    assert found(read_corpus([path], split="train")) == [("a.wav", 5)]


def test_parts_of_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    soundfile.write(tmp_path / "a.wav", noise, 16_000)
    path = manifest(tmp_path, "path\tstart\tend\na.wav\t0.5\t0.75\na.wav\t0\t0.5\n")
    corpus = read_corpus([path])
    assert found(corpus) == [("a-000000000-000000500", 8_000), ("a-000000500-000000750", 4_000)]
    whole = read_audio(tmp_path / "a.wav")
    assert torch.equal(corpus.utterances[1].read(), whole[8_000:12_000])
    assert torch.equal(corpus.utterances[1].read(1_000, 500), whole[9_000:9_500])


SPLITS = "path\tsplit\tsamples\na.wav\ttrain\t5\nb.wav\ttest\t6\n"


def test_a_split_is_taken_and_never_guessed(tmp_path: Path) -> None:
    path = manifest(tmp_path, SPLITS)
    assert found(read_corpus([path], split="train")) == [("a.wav", 5)]
    with pytest.raises(AudioError, match="splits test, train: say by --split"):
        read_corpus([path])
    with pytest.raises(AudioError, match="no split 'dev', expected one of: test, train"):
        read_corpus([path], split="dev")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\na.wav\n", "of a table, name the columns there"),
        ("path\tsamples\na.wav\tlong\n", r"line 2: .*'long', expected 0 or more samples"),
        ("path\tsamples\na.wav\t1.5\n", "must be a count"),
        ("path\tsamples\n", "names no audio"),
        ("", "expected the folder that its paths are taken from"),
        ("path\nmissing.wav\n", "missing.wav"),
    ],
)
def test_manifests_that_do_not_hold(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=message):
        read_corpus([manifest(tmp_path, text)])


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot open .*none"):
        read_corpus([tmp_path / "none"])
    with pytest.raises(AudioError, match="holds no audio"):
        read_corpus([tmp_path])


def test_names_that_differ_in_their_suffix_alone(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 10)
    write_wav(tmp_path / "a.flac", 20)
    assert found(read_corpus([tmp_path])) == [("a.flac", 20), ("a.wav", 10)]


def test_absolute_paths_and_those_above_the_manifest(tmp_path: Path) -> None:
    write_wav(tmp_path / "in" / "a.wav", 10)
    write_wav(tmp_path / "b.wav", 20)
    path = manifest(tmp_path / "in", f"path\n{tmp_path}/in/a.wav\n../b.wav\n")
    assert found(read_corpus([path])) == [("../b.wav", 20), ("a.wav", 10)]


def test_several_sources_follow_each_other(tmp_path: Path) -> None:
    write_wav(tmp_path / "z" / "a.wav", 10)
    write_wav(tmp_path / "y" / "a.wav", 20)
    corpus = read_corpus([tmp_path / "z", tmp_path / "y"])
    assert found(corpus) == [("a.wav", 10), ("a.wav", 20)]
    assert corpus.hours == pytest.approx(30 / 16_000 / 3600)


def test_the_digest_goes_with_what_is_in_it(tmp_path: Path) -> None:
    for folder, length in (("one", 10), ("moved", 10), ("other", 11)):
        write_wav(tmp_path / folder / "a.wav", length)
    one, moved, other = (read_corpus([tmp_path / n]).digest for n in ("one", "moved", "other"))
    assert one == moved
    assert one != other


def test_lengths_out_of_bounds_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = read_corpus([manifest(tmp_path, "path\tsamples\na\t5\nb\t6\nc\t7\nd\t8\n")])
    with caplog.at_level(logging.INFO, logger="auricle"):
        assert [key for key, _ in found(corpus.within(6, 7))] == ["b", "c"]
    assert "2 utterances are left out" in caplog.text
    assert len(corpus.within(8, None).utterances) == 1
    with pytest.raises(AudioError, match=r"none of the 4 utterances.*at least 9 samples"):
        corpus.within(9, None)
