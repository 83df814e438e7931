from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from auricle.errors import ExtractionError, OutputError
from auricle.extraction.engine import Stages
from auricle.extraction.inputs.records import Problem
from auricle.extraction.local import LocalEngine
from auricle.extraction.plan import Limits
from auricle.extraction.run import Summary, extract, locked
from auricle.extraction.store.reader import open as open_store
from auricle.extraction.utterances import Utterance
from auricle.extraction.work import Shard, Work
from auricle.models.base import Encoder

LIMITS = Limits(batch_seconds=3, shard_seconds=2)


@pytest.fixture
def run(make_work: Callable[..., Work], heard: Any) -> Callable[..., Summary]:
    def run(utterances: Sequence[Utterance], out: Path, engine: Any = None, **options: Any) -> Any:
        return extract(
            utterances,
            make_work(out),
            engine or LocalEngine(("cpu",)),
            num_bytes=lambda seconds: round(1000 * seconds),
            progress=heard,
            limits=LIMITS,
            **options,
        )

    return run


def bytes_of(out: Path) -> dict[str, bytes]:
    store = open_store(out)
    return {name: store[name].numpy().tobytes() for name in store.ids}


class KilledError(Exception):
    """Stands for a process that ends in the middle."""


@dataclasses.dataclass
class Dying:
    """Runs so many shards, and no more."""

    num_shards: int

    def __call__(self, work: Work, shards: Sequence[Shard], **heard: Any) -> Stages:
        LocalEngine(("cpu",))(work, shards[: self.num_shards], **heard)
        raise KilledError


def test_every_utterance_has_what_the_encoder_gives_for_it_alone(
    corpus: list[Utterance], run: Any, tmp_path: Path, encoder: Encoder, heard: Any
) -> None:
    summary = run(corpus, tmp_path / "out")
    store = open_store(tmp_path / "out")
    assert sorted(store.ids) == sorted(u.id for u in corpus)
    assert store.is_closed
    for utterance in corpus:
        with torch.inference_mode():
            (alone,) = encoder([utterance.source])
        torch.testing.assert_close(store[utterance.id], alone, rtol=0, atol=1e-4)
    assert (summary.num_encoded, summary.num_before, summary.num_failed) == (12, 0, 0)
    assert 0 <= summary.padding < 0.05
    assert summary.seconds == pytest.approx(heard.seconds) == pytest.approx(heard.advanced)
    assert heard.num_utterances == 12
    assert summary.stages.encoding > 0
    assert not (tmp_path / "out" / "errors.jsonl").exists()


def test_lengths_are_those_that_were_decoded(
    corpus: list[Utterance], run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    true = {u.id: soundfile.info(u.source).duration for u in corpus}
    stated = true | {corpus[0].id: 500.0, corpus[3].id: 0.01, corpus[4].id: 1000.0}
    stated[corpus[5].id] += 0.05  # rounded
    with caplog.at_level(logging.WARNING):
        summary = run(corpus, tmp_path / "out", known_seconds=stated)
    assert summary.seconds == pytest.approx(sum(true.values()))
    rows = open_store(tmp_path / "out").to_pandas()
    assert dict(zip(rows["id"], rows["seconds"], strict=True)) == pytest.approx(true)
    (record,) = caplog.records
    assert "3 of 12 listed durations disagree with the files, such as: " in record.getMessage()


@pytest.mark.parametrize("num_shards", [0, 1, 3])
def test_a_run_that_was_killed_goes_on_and_gives_the_same_bytes(
    corpus: list[Utterance], run: Any, tmp_path: Path, num_shards: int, heard: Any
) -> None:
    run(corpus, tmp_path / "whole")
    with pytest.raises(KilledError):
        run(corpus, tmp_path / "killed", Dying(num_shards))
    heard.advanced = 0.0
    summary = run(corpus, tmp_path / "killed")
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert summary.num_before + summary.num_encoded == 12
    assert (summary.num_before > 0) == (num_shards > 0)
    assert heard.advanced == pytest.approx(summary.seconds)


def test_a_shard_that_was_cut_is_made_again(
    corpus: list[Utterance], run: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(corpus, out)
    before = bytes_of(out)
    shard = sorted((out / "shards").iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:-5])
    summary = run(corpus, out)
    assert 0 < summary.num_encoded < 12
    assert bytes_of(out) == before


def test_a_grown_corpus_costs_what_is_new(
    corpus: list[Utterance], run: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(corpus[:8], out)
    before = bytes_of(out)
    files = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    summary = run(corpus, out)
    assert (summary.num_before, summary.num_encoded) == (8, 4)
    after = bytes_of(out)
    assert len(after) == 12
    assert {name: after[name] for name in before} == before
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    again = run(corpus, out)
    assert (again.num_before, again.num_encoded, again.seconds) == (12, 0, 0)
    assert open_store(out).is_closed


def test_what_fails_is_told_and_tried_again(
    corpus: list[Utterance], run: Any, tmp_path: Path, heard: Any
) -> None:
    out = tmp_path / "out"
    whole = Path(corpus[3].source).read_bytes()
    Path(corpus[3].source).write_bytes(b"no audio at all")
    short = corpus[5].source
    samples, rate = soundfile.read(short)
    soundfile.write(short, samples[:10], rate)
    summary = run(corpus, out)
    assert (summary.num_encoded, summary.num_failed) == (10, 2)
    lines = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == {corpus[3].id, corpus[5].id}
    assert {line["source"] for line in lines} == {corpus[3].source, short}
    assert any("needs at least" in line["error"] for line in lines)
    for line, reason in zip(lines, heard.failures, strict=True):
        assert line["id"] in reason
        assert line["source"] in reason

    plans = sorted((out / "plans").iterdir())
    assert run(corpus, out).num_failed == 2
    assert sorted((out / "plans").iterdir()) == plans  # nothing came of it

    Path(corpus[3].source).write_bytes(whole)
    summary = run(corpus, out)
    assert (summary.num_before, summary.num_encoded, summary.num_failed) == (10, 1, 1)
    assert corpus[3].id in open_store(out)
    (line,) = (out / "errors.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == corpus[5].id

    soundfile.write(short, samples, rate)
    assert run(corpus, out).num_failed == 0
    assert not (out / "errors.jsonl").exists()


@pytest.mark.parametrize("content", [b"no audio at all", None])
def test_a_run_may_stop_at_the_first_failure(
    corpus: list[Utterance], run: Any, tmp_path: Path, content: bytes | None
) -> None:
    path = Path(corpus[7].source)
    if content is None:
        samples, rate = soundfile.read(path)
        samples[100] = float("nan")
        soundfile.write(path, samples, rate, subtype="FLOAT")
    else:
        path.write_bytes(content)
    with pytest.raises(ExtractionError, match=r"s1/u7.*run the same command again"):
        run(corpus, tmp_path / "out", on_error="stop")
    assert corpus[7].id in (tmp_path / "out" / "errors.jsonl").read_text()


def test_rows_that_are_no_utterances_are_failures_of_the_last_run(
    corpus: list[Utterance], run: Any, tmp_path: Path, heard: Any
) -> None:
    out = tmp_path / "out"
    problems = [
        Problem(kind="missing", manifest="list.csv", line=4, id="due", source="b.wav", reason="no"),
        Problem(kind="unreadable", manifest="list.csv", line=5, reason="not a number"),
    ]
    assert run(corpus[:2], out, problems=problems).num_failed == 2
    assert heard.failures == [
        "due (b.wav): list.csv, line 4: no",
        "list.csv, line 5: not a number",
    ]
    lines = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["due", ""]
    run(corpus[:3], out)  # another list, which says nothing of "due"
    lines = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["due"]
    with pytest.raises(ExtractionError, match="line 5: not a number; mend"):
        run(corpus[:2], out, problems=problems[1:], on_error="stop")


def test_an_id_that_the_format_cannot_hold_is_a_failure(
    corpus: list[Utterance], run: Any, tmp_path: Path, heard: Any
) -> None:
    unnamed = dataclasses.replace(corpus[1], id="a\0b")
    summary = run([corpus[0], unnamed], tmp_path / "out")
    assert (summary.num_encoded, summary.num_failed) == (1, 1)
    assert summary.example == corpus[0].id
    assert "an id must be text" in heard.failures[0]


def test_two_runs_do_not_write_to_one_store(
    corpus: list[Utterance], run: Any, tmp_path: Path, make_work: Any
) -> None:
    work = make_work(tmp_path / "out")
    with (
        locked(work.writer.folder),
        pytest.raises(OutputError, match="another run is writing"),
    ):
        run(corpus, tmp_path / "out")
    run(corpus, tmp_path / "out")


def test_nothing_to_do_is_a_closed_store(run: Any, tmp_path: Path) -> None:
    assert run([], tmp_path / "out").num_encoded == 0
    assert list(open_store(tmp_path / "out").ids) == []
