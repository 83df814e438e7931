from __future__ import annotations

import dataclasses
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile

from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError, ExtractionError, StoreError
from auricle.extraction import spooling
from auricle.extraction.engines import LocalEngine
from auricle.extraction.plan import PlanLimits, PlannedShard
from auricle.extraction.run import Run, Summary
from auricle.extraction.spooling import open_stream
from auricle.extraction.streams import StreamPosition, StreamPositions, extract_streams
from auricle.extraction.worker import Stages, Worker
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.store.folder import open_folder
from auricle.store.reader import open as open_store

datasets = pytest.importorskip("datasets")

GROUP_ROWS = 5


def audio_of(number: int) -> bytes:
    speech = read_audio(sample_paths()[0], sample_rate=SAMPLE_RATE)
    buffer = io.BytesIO()
    piece = speech[300 * number : 300 * number + 4000 + 1000 * number]
    soundfile.write(buffer, piece.numpy(), SAMPLE_RATE, format="WAV")
    return buffer.getvalue()


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """A data set of so many rows, as Parquet in a folder, as the hub holds them."""

    def save(num_rows: int, bad: Sequence[int] = (), ids: Any = "u{}".format) -> Path:
        rows = [
            {
                "id": ids(number),
                "audio": {
                    "bytes": b"no audio" if number in bad else audio_of(number),
                    "path": f"{number}.wav",
                },
            }
            for number in range(num_rows)
        ]
        folder = tmp_path / "set"
        folder.mkdir(exist_ok=True)
        table = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
        table.to_parquet(folder / "train.parquet")
        return folder

    return save


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, and the datasets library's cache."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return folder


@pytest.fixture
def run(make_worker: Callable[..., Worker], heard: Any) -> Callable[..., Summary]:
    def run(
        folder: Path,
        out: Path,
        engine: Any = None,
        group_rows: int = GROUP_ROWS,
        on_error: str = "report",
    ) -> Summary:
        worker = make_worker(out)
        with worker.writer.folder.locked():
            started = Run(
                worker,
                engine or LocalEngine(("cpu",)),
                num_bytes=lambda seconds: round(1000 * seconds),
                progress=heard,
                limits=PlanLimits(batch_seconds=1.5, shard_seconds=1),
                stops=on_error == "stop",
            )
            streams = [open_stream(f"hf-dataset://{folder}")]
            return extract_streams(started, streams, group_rows=group_rows)

    return run


class KilledError(Exception):
    """Stands for a process that ends in the middle."""


@dataclasses.dataclass
class Counting:
    """Notes what it runs, and ends after so many shards."""

    num_shards: int = 1000
    ids: list[str] = dataclasses.field(default_factory=list)

    def __call__(self, worker: Worker, shards: Sequence[PlannedShard], **heard: Any) -> Stages:
        stages = Stages()
        for shard in shards:
            if not self.num_shards:
                raise KilledError
            self.num_shards -= 1
            stages += LocalEngine(("cpu",))(worker, [shard], **heard)
            self.ids += [timed.utterance.id for timed in shard.utterances]
        return stages


def bytes_of(out: Path) -> dict[str, bytes]:
    store = open_store(out)
    return {name: store[name].numpy().tobytes() for name in store.ids}


def errors_in(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]


def test_every_row_has_what_the_encoder_gives_for_it_alone(
    save: Any, run: Any, tmp_path: Path, encoder: Encoder, heard: Any, temporary: Path
) -> None:
    out = tmp_path / "out"
    summary = run(save(12), out)
    assert (summary.num_encoded, summary.num_before, summary.num_failed) == (12, 0, 0)
    assert (heard.seconds, heard.num_utterances) == (None, None)
    assert heard.advanced == pytest.approx(summary.seconds)
    assert 0 <= summary.padding < 0.05
    store = open_store(out)
    assert store.is_closed
    assert summary.example in store
    assert sorted(store.ids) == sorted(f"u{number}" for number in range(12))
    for number in (0, 7, 11):
        path = tmp_path / "alone.wav"
        path.write_bytes(audio_of(number))
        (alone,) = encoder([path])
        assert (store[f"u{number}"] - alone).abs().max() < 1e-4
    rows = store.to_pandas().set_index("id")
    assert rows["source"]["u7"] == f"{tmp_path / 'set'}:train:7"
    assert rows["seconds"]["u7"] == pytest.approx(11_000 / SAMPLE_RATE)
    assert len(list((out / "plans").iterdir())) == 3
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("num_shards", [0, 1, 2, 4])
def test_a_run_that_was_killed_goes_on_and_gives_the_same_bytes(
    save: Any, run: Any, tmp_path: Path, num_shards: int
) -> None:
    folder = save(12, bad=[6])
    whole = Counting()
    run(folder, tmp_path / "whole", whole)
    killed, again = Counting(num_shards), Counting()
    with pytest.raises(KilledError):
        run(folder, tmp_path / "killed", killed)
    assert not open_store(tmp_path / "killed").is_closed
    assert len(open_store(tmp_path / "killed")) == len(killed.ids)
    summary = run(folder, tmp_path / "killed", again)
    assert sorted(killed.ids + again.ids) == sorted(whole.ids)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert summary.num_before == len(killed.ids)
    assert [entry["id"] for entry in errors_in(tmp_path / "killed")] == ["u6"]


@pytest.mark.parametrize("group_rows", [1, 2, 100])
def test_a_group_that_was_begun_goes_on_whatever_the_size_of_the_next(
    save: Any, run: Any, tmp_path: Path, group_rows: int
) -> None:
    folder, out = save(12), tmp_path / "out"
    killed, again = Counting(3), Counting()
    with pytest.raises(KilledError):
        run(folder, out, killed)
    run(folder, out, again, group_rows)
    assert sorted(killed.ids + again.ids) == sorted(f"u{number}" for number in range(12))
    assert len(open_store(out)) == 12


def test_a_stream_that_has_grown_costs_what_is_new(save: Any, run: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(save(7), out)
    before = bytes_of(out)
    engine = Counting()
    summary = run(save(12), out, engine)
    assert sorted(engine.ids) == sorted(f"u{number}" for number in range(7, 12))
    assert (summary.num_before, summary.num_encoded) == (7, 5)
    assert before.items() <= bytes_of(out).items()
    again = run(save(12), out, engine)
    assert (again.num_before, again.num_encoded, again.num_failed) == (12, 0, 0)
    assert open_store(out).is_closed


def test_a_shard_that_was_cut_is_made_again(save: Any, run: Any, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", save(12)
    run(folder, out)
    before = bytes_of(out)
    for shard in (out / "shards").glob("0000[01]-000000.*"):
        shard.write_bytes(shard.read_bytes()[:-5])
    engine = Counting()
    assert 0 < run(folder, out, engine).num_encoded < 12
    assert bytes_of(out) == before
    assert len(engine.ids) < 12


def test_positions_that_are_lost_cost_reading_alone(save: Any, run: Any, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", save(7)
    with pytest.raises(KilledError):
        run(folder, out, Counting(1))
    num_done = len(open_store(out))
    (out / "streams.json").unlink()
    assert run(folder, out).num_encoded == 7 - num_done
    (out / "streams.json").unlink()
    assert run(folder, out).num_encoded == 0


def test_rows_that_give_nothing_are_told_once(
    save: Any, run: Any, tmp_path: Path, heard: Any
) -> None:
    out, folder = tmp_path / "out", save(12, bad=[2, 8])
    summary = run(folder, out)
    assert (summary.num_encoded, summary.num_failed) == (10, 2)
    assert len(heard.failures) == 2
    assert [(entry["id"], entry["source"]) for entry in errors_in(out)] == [
        ("u2", f"{folder}:train:2"),
        ("u8", f"{folder}:train:8"),
    ]
    assert run(folder, out).num_failed == 0
    assert len(errors_in(out)) == 2


def test_ids_that_come_twice_are_failures(save: Any, run: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = save(12, ids=lambda number: f"u{number % 11 if number != 3 else 2}")
    summary = run(folder, out)
    assert (summary.num_encoded, summary.num_failed) == (10, 2)
    first, second = errors_in(out)
    assert (first["id"], first["source"]) == ("u2", f"{folder}:train:3")
    assert f"{folder}:train:2 has it too" in first["error"]
    assert (second["id"], second["source"]) == ("u0", f"{folder}:train:11")
    assert f"{folder}:train:0 has it too" in second["error"]


def test_a_run_may_stop_at_the_first_failure(save: Any, run: Any, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", save(12, bad=[8])
    for _ in range(2):
        with pytest.raises(ExtractionError, match="u8.*same command again"):
            run(folder, out, on_error="stop")
        assert len(open_store(out)) == 5
    assert run(folder, out).num_encoded == 6


def test_a_stream_that_breaks_off_leaves_what_is_whole(
    save: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    class Broken:
        features = None

        def __iter__(self) -> Any:
            for number in range(7):
                yield {"id": f"u{number}", "audio": {"bytes": audio_of(number), "path": "a.wav"}}
            raise ConnectionResetError("reset")

    out, folder = tmp_path / "out", save(12)
    with monkeypatch.context() as patched:
        patched.setattr(spooling, "load_stream", lambda source: {"train": Broken()})
        with pytest.raises(AudioError, match="broke off at row 7 of train"):
            run(folder, out)
    assert len(open_store(out)) == 5
    assert list(temporary.iterdir()) == []
    assert run(folder, out).num_encoded == 7


def test_a_set_that_shrank_under_a_run_is_told(save: Any, run: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed = Counting(3)
    with pytest.raises(KilledError):
        run(save(12), out, killed)
    summary = run(save(2), out)
    assert summary.num_failed > 0
    assert all("has not come with its stream" in entry["error"] for entry in errors_in(out))


def test_streams_stand_where_they_were_noted(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    positions = StreamPositions(folder)
    assert positions.find("a", "train") == StreamPosition(source="a", split="train")
    noted = [
        StreamPosition(source="a", split="train", num_rows=8, end_row=12),
        StreamPosition(source="a", split="test", num_rows=2, end_row=2),
    ]
    for position in [StreamPosition(source="a", split="train", num_rows=4, end_row=8), *noted]:
        positions.note(position)
    for found in (positions, StreamPositions(folder)):
        assert [found.find("a", split) for split in ("train", "test")] == noted
        assert found.find("b", "train").num_rows == 0


def test_a_damaged_file_says_what_mends_it(tmp_path: Path) -> None:
    (tmp_path / "streams.json").write_text("[{")
    with pytest.raises(StoreError, match=r"streams.json cannot be read.*remove it"):
        StreamPositions(open_folder(tmp_path))
