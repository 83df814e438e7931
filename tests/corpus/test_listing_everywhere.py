"""Extraction, pretraining, probes and pictures list the same utterances of the same input."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import auricle
from auricle.corpus.listing import find_utterance, list_utterances
from auricle.corpus.reading import decode_utterance
from auricle.errors import AudioError
from auricle.plotting.api import listen
from auricle.probing.tasks import read_task
from auricle.training.building import read_corpus

RATE = 16_000
NAMES = ("x/x-0", "x/x-1", "y/y-0", "y/y-1")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Two utterances of noise by each of two speakers."""
    folder = tmp_path / "speech"
    for seed, name in enumerate(NAMES):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, 4_000 + 800 * seed)
        soundfile.write(path, noise, RATE)
    return folder


def of_folder(speech: Path) -> str:
    return str(speech)


def of_pattern(speech: Path) -> str:
    return f"{speech}/**/*.wav"


def of_table(speech: Path) -> str:
    rows = "".join(f"{speech}/{name}.wav,{name[0]},0.05,0.1\n" for name in NAMES)
    (speech / "list.csv").write_text(f"path,Speaker,start,duration\n{rows}")
    return str(speech / "list.csv")


def of_json(speech: Path) -> str:
    rows = [{"id": n, "audio_filepath": f"{n}.wav", "speaker": n[0]} for n in NAMES]
    (speech / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(speech / "list.jsonl")


def of_fairseq(speech: Path) -> str:
    rows = "".join(f"{name}.wav\t4000\n" for name in NAMES)
    (speech / "train.tsv").write_text(f"{speech}\n{rows}")
    return str(speech / "train.tsv")


def of_kaldi(speech: Path) -> str:
    (speech / "wav.scp").write_text("".join(f"{n[2:]} {n}.wav\n" for n in NAMES))
    (speech / "utt2spk").write_text("".join(f"{n[2:]} {n[0]}\n" for n in NAMES))
    return str(speech)


def of_lhotse(speech: Path) -> str:
    lhotse = pytest.importorskip("lhotse")
    cuts = []
    for name in NAMES:
        recording = lhotse.Recording.from_file(speech / f"{name}.wav", recording_id=name)
        supervision = lhotse.SupervisionSegment(
            id=name, recording_id=name, start=0, duration=recording.duration, speaker=name[0]
        )
        cut = recording.to_cut()
        cut.supervisions = [supervision]
        cuts.append(json.dumps(cut.to_dict()))
    (speech / "cuts.jsonl").write_text("\n".join(cuts))
    return str(speech / "cuts.jsonl")


def of_archive(speech: Path) -> str:
    with tarfile.open(speech / "shard.tar", "w") as archive:
        for name in NAMES:
            archive.add(speech / f"{name}.wav", f"{name}.wav")
    return str(speech / "shard.tar")


def of_data_set(speech: Path) -> str:
    datasets = pytest.importorskip("datasets")
    rows = {
        "id": list(NAMES),
        "audio": [str(speech / f"{name}.wav") for name in NAMES],
        "speaker": [name[0] for name in NAMES],
    }
    rows = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio(decode=False))
    rows.save_to_disk(speech / "saved")
    return str(speech / "saved")


LABELLED = (of_table, of_json, of_kaldi, of_lhotse, of_data_set)


@pytest.mark.parametrize("make", [of_folder, of_pattern, of_fairseq, of_archive, *LABELLED])
def test_all_list_the_same(make: Callable[[Path], str], speech: Path, tmp_path: Path) -> None:
    text = make(speech)
    listed = {one.id: one for one in list_utterances([text]).utterances}
    assert len(listed) == len(NAMES)
    auricle.extract(text, tmp_path / "out", model="mel", devices="cpu")
    assert sorted(auricle.open(tmp_path / "out")) == sorted(listed)
    corpus = read_corpus([text])
    assert {one.utterance.id: one.utterance for one in corpus.utterances} == listed
    with pytest.raises(AudioError, match=r"has 4 utterances, expected one: .*utterance="):
        listen(text)
    for one in corpus.utterances:
        waveform = decode_utterance(listed[one.utterance.id], sample_rate=RATE)
        assert len(waveform) == one.num_samples
        assert torch.equal(one.read(), waveform)
        assert torch.equal(listen(text, utterance=one.utterance.id).waveform, waveform)
    if make in LABELLED:
        task = read_task("speakers", text)
        found = [(one.id, one.source, one.member, one.start) for one in task.utterances]
        assert sorted(found) == sorted(
            (one.id, one.source, one.member, one.start) for one in listed.values()
        )
        assert sorted(one.labels["speaker"] for one in task.utterances) == list("xxyy")


def test_one_of_several_is_found_by_its_id(speech: Path) -> None:
    assert find_utterance(str(speech), "y/y-1").source == str(speech / "y/y-1.wav")
    with pytest.raises(AudioError, match=r"no utterance 'z', but 'x/x-0', 'x/x-1'"):
        find_utterance(str(speech), "z")
    assert find_utterance(str(speech / "y/*-1.wav")).id == "y-1"
    alone = str(speech / "x/x-0.wav")
    assert find_utterance(alone).source == find_utterance(alone, "x-0").source == alone
    assert find_utterance("gone.wav", channel=1).channel == 1
