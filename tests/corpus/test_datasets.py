from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auricle.corpus.datasets import (
    SCHEME,
    UNNAMED_SPLIT,
    audio_column,
    id_column,
    id_of_row,
    is_saved_dataset,
    list_dataset,
    load_stream,
    open_splits,
    parse_name,
    row_audio,
)
from auricle.corpus.utterance import Scope
from auricle.errors import AudioError, MissingExtraError
from auricle.extraction.spooling import open_stream

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    open_splits.cache_clear()
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
    open_splits.cache_clear()


def rows(column: str = "audio", **columns: list[Any]) -> Any:
    made = datasets.Dataset.from_dict(columns)
    made = made.cast_column(column, datasets.Audio(decode=False))  # encoding would need torchcodec
    return made.cast_column(column, datasets.Audio())


def cells(*contents: bytes | None, path: str = "x.wav") -> list[dict[str, Any]]:
    return [{"bytes": item, "path": path} for item in contents]


def test_rows_with_ids_of_their_own(tmp_path: Path) -> None:
    made = rows(id=["ä/1", "b"], audio=cells(b"one", b"two"), duration=[1.5, 2.5], text=["", ""])
    made.save_to_disk(tmp_path / "set")
    listing = list_dataset(str(tmp_path / "set"), Scope(channel=0))
    assert [(u.id, u.source, u.member, u.container, u.channel) for u in listing.utterances] == [
        ("ä/1", str(tmp_path / "set"), f"{UNNAMED_SPLIT}:0", "dataset", 0),
        ("b", str(tmp_path / "set"), f"{UNNAMED_SPLIT}:1", "dataset", 0),
    ]
    assert listing.known_seconds == {"ä/1": 1.5, "b": 2.5}
    assert is_saved_dataset(str(tmp_path / "set"))
    utterance = listing.utterances[1]
    assert row_audio(utterance.source, utterance.member) == (b"two", "x.wav")


def test_splits_and_rows_without_ids(tmp_path: Path) -> None:
    splits = {"train": rows(audio=cells(b"1", b"2")), "test": rows(audio=cells(b"3"))}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    folder = f"{SCHEME}{tmp_path}/set"
    every = [u.id for u in list_dataset(folder, Scope()).utterances]
    assert every == ["train/000000000", "train/000000001", "test/000000000"]
    (only,) = list_dataset(f"{folder}@test", Scope()).utterances
    assert (only.id, only.member) == ("test/000000000", "test:0")
    assert row_audio(only.source, only.member)[0] == b"3"
    with pytest.raises(AudioError, match="no split 'dev', but train, test"):
        list_dataset(f"{folder}@dev", Scope())


def test_bad_rows(
    tmp_path: Path, touch: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auricle.corpus.datasets.ROWS_AT_ONCE", 2)
    (inside, outside) = touch("in/a.wav", "out.wav")
    audio = [
        *cells(b"good", None, path=""),
        *cells(None, path=str(tmp_path / "gone.wav")),
        *cells(None, path=str(outside)),
        *cells(None, path=str(inside)),
        *cells(b"bytes", path="/etc/passwd"),
    ]
    made = datasets.Dataset.from_dict({"id": ["a", "b", "c", "d", "e", "../f"], "sound": audio})
    # Saving would take the files into the set; a cache of the hub's client only names them.
    open_sets = {"train": made}
    listing = list_of(open_sets, tmp_path, Scope(root=tmp_path / "in"))
    assert [u.id for u in listing.utterances] == ["a", "e"]
    assert [(p.kind, p.line, p.id) for p in listing.problems] == [
        ("unreadable", 2, "b"),
        ("missing", 3, "c"),
        ("escape", 4, "d"),
        ("unreadable", 6, "../f"),
    ]
    assert [p.id for p in list_of(open_sets, tmp_path, Scope()).problems] == ["b", "c", "../f"]


def list_of(open_sets: dict[str, Any], folder: Path, scope: Scope) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_dataset", lambda *a, **k: datasets.DatasetDict(open_sets))
        open_splits.cache_clear()
        return list_dataset(str(folder), scope)


@pytest.mark.parametrize(
    ("text", "source", "split"),
    [
        ("hf-dataset://name", "name", None),
        ("hf-dataset://owner/name@test", "owner/name", "test"),
        ("owner/name/config@test", "owner/name/config", "test"),
        ("hf-dataset:///gone/folder/config", "/gone/folder/config", None),
    ],
)
def test_names(text: str, source: str, split: str | None) -> None:
    name = parse_name(text)
    assert (name.source, name.split) == (source, split)


def test_a_folder_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a@b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_name("hf-dataset://a@b").source == str(tmp_path / "a@b")
    assert parse_name("hf-dataset://./a/c@s").source == str(tmp_path / "a/c")
    for text in ("hf-dataset://", "hf-dataset://x@"):
        with pytest.raises(AudioError, match="names no data set"):
            parse_name(text)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("name", ("name", None)),
        ("owner/name", ("owner/name", None)),
        ("owner/name/config", ("owner/name", "config")),
        ("/gone/folder/config", ("/gone/folder", "config")),
    ],
)
def test_what_the_library_is_asked_for(
    source: str, expected: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None, bool]] = []

    def load(path: str, config: str | None, *, streaming: bool) -> Any:
        asked.append((path, config, streaming))
        made = rows(audio=cells(b"1"))
        return made.to_iterable_dataset() if streaming else made

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(open_splits(source)) == [UNNAMED_SPLIT]
    assert open_splits(source) is open_splits(source)
    stream = load_stream(source)[UNNAMED_SPLIT]
    assert next(iter(stream)) == {"audio": {"bytes": b"1", "path": "x.wav"}}
    assert asked == [(*expected, False), (*expected, True)]


def test_a_set_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **options: object) -> Any:
        raise FileNotFoundError("no such set")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(AudioError, match="cannot open the data set name: no such set"):
        open_splits("name")
    with pytest.raises(AudioError, match="expected OWNER/NAME"):
        open_splits("a/b/c/d")


def test_a_set_of_the_hub_without_a_network_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr("auricle.corpus.datasets.getproxies", dict)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    message = r"owner/name: huggingface.co cannot be reached \(Name or service not known; is there"
    for opened in (open_splits, load_stream):
        with pytest.raises(AudioError, match=message):
            opened("owner/name/config")
    assert caplog.records == []
    # The library itself finds what is in its cache.
    (tmp_path / "owner___name").mkdir()
    made = rows(audio=cells(b"1"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    assert open_splits("owner/name/config")


def test_the_column_of_audio() -> None:
    sound = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    text = datasets.Value("string")
    assert audio_column({"text": text, "speech": datasets.Audio()}, "x") == "speech"
    assert audio_column({"speech": datasets.Audio(), "audio": sound}, "x") == "audio"
    with pytest.raises(AudioError, match="has 0 columns of audio among text"):
        audio_column({"text": text}, "x")
    with pytest.raises(AudioError, match="has 2 columns of audio"):
        audio_column({"a": sound, "b": sound}, "x")


def test_ids_of_rows() -> None:
    assert id_column({"text": 0, "utt_id": 0}) == "utt_id"
    assert id_column({"text": 0}) is None
    assert id_of_row(7, "train", 3) == "7"
    assert id_of_row(None, "train", 3) == "train/000000003"


@pytest.mark.parametrize("member", ["train:1", "test:0", "train:-1"])
def test_a_row_that_is_gone(tmp_path: Path, member: str) -> None:
    rows(audio=cells(b"1")).save_to_disk(tmp_path / "set")
    with pytest.raises(AudioError, match="has no row"):
        row_audio(str(tmp_path / "set"), member)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match="pip install datasets"):
        list_dataset("hf-dataset://name", Scope())


@pytest.fixture
def folder_of_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that the library reads as a data set, which it does by torchcodec, not there."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "audio"
    folder.mkdir()
    soundfile.write(folder / "a.wav", np.zeros(800), 16_000)
    return f"hf-dataset://{folder}"


def test_a_package_that_the_library_lacks_is_named(folder_of_audio: str) -> None:
    with pytest.raises(MissingExtraError, match="without torchcodec.*pip install torchcodec") as e:
        list_dataset(folder_of_audio, Scope())
    assert e.value.name == "torchcodec"
    assert e.value.__cause__ is not None


def test_a_package_that_a_stream_lacks_is_named(folder_of_audio: str, tmp_path: Path) -> None:
    stream = open_stream(f"{folder_of_audio}@train")
    with pytest.raises(MissingExtraError, match="without torchcodec.*pip install torchcodec"):
        next(stream.groups(tmp_path / "spool"))


def test_labels_are_columns_of_texts_numbers_and_classes(tmp_path: Path) -> None:
    made = rows(audio=cells(b"1", b"2"), speaker=["x", None], word=[1, 0], steps=[[1], [2]])
    made = made.cast_column("word", datasets.ClassLabel(names=["low", "high"]))
    made.save_to_disk(tmp_path / "set")
    listing = list_dataset(str(tmp_path / "set"), Scope(with_labels=True))
    assert [dict(one.labels) for one in listing.utterances] == [
        {"split": "train", "speaker": "x", "word": "high"},
        {"split": "train", "speaker": "", "word": "low"},
    ]
    assert not list_dataset(str(tmp_path / "set"), Scope()).utterances[0].labels
