from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import auricle
from auricle.corpus.utterance import Listing, Utterance
from auricle.extraction import forecast
from auricle.extraction.engines import LocalEngine
from auricle.extraction.forecast import LongAudioHint, Rate, span, survey
from auricle.extraction.plan import PlanLimits, Timed
from auricle.extraction.selection import Selection, Windows
from auricle.extraction.worker import Worker
from auricle.models.base import Encoder
from auricle.store.reader import open as open_store
from extraction.conftest import extract


@pytest.fixture(scope="module")
def attending() -> Encoder:
    return auricle.load("wav2vec2_mini")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Lets noise of so many seconds take a x length + b x length squared."""

    def set_rate(linear: float, quadratic: float) -> None:
        monkeypatch.setattr(
            forecast, "_seconds", lambda _, __, length: linear * length + quadratic * length**2
        )

    return set_rate


def long(seconds: float) -> list[list[Timed]]:
    return [[Timed(utterance=Utterance(id="talk", source="talk.wav"), seconds=seconds)]]


def test_both_terms_of_the_time_are_found(attending: Encoder, clock: Any) -> None:
    clock(0.02, 3e-4)
    selection = Selection.of(attending)
    rate = Rate.of(selection, attending, 3600)
    assert rate.seconds(3600) == pytest.approx(0.02 * 3600 + 3e-4 * 3600**2)
    windows = Windows(window_seconds=30, overlap_seconds=5)
    one = 0.02 * 30 + 3e-4 * 900
    assert rate.seconds(3600, windows) == pytest.approx(one * 3600 / 25)
    assert rate.seconds(20, windows) == rate.seconds(20)
    clock(0.02, 0)
    assert Rate.of(selection, attending, 3600).quadratic == 0


def test_noise_is_really_encoded(encoder: Encoder) -> None:
    rate = Rate.of(Selection.of(encoder), encoder, 2.0)
    assert rate.linear > 0
    assert rate.quadratic == 0


def test_long_audio_through_attention_is_worth_one_line(
    attending: Encoder, encoder: Encoder, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    clock(0.02, 3e-4)
    selection = Selection.of(attending)
    hint = LongAudioHint(selection, attending, is_here=True)
    hint(long(599))
    assert not caplog.records
    hint(long(3600))
    hint(long(3600))
    (record,) = caplog.records
    assert record.getMessage() == (
        "talk (60 min long) goes whole through attention, whose time grows with the square of the "
        "length: about 66 min here; --window-seconds 30 (window_seconds=30) takes about 2 min, and "
        "is not exact"
    )
    caplog.clear()
    LongAudioHint(selection, attending, is_here=False)(long(3600))
    assert "is much quicker" in caplog.text
    caplog.clear()
    clock(0.02, 0)  # as a machine may seem that does other things
    LongAudioHint(selection, attending, is_here=True)(long(3600))
    assert "is much quicker" in caplog.text
    caplog.clear()
    clock(0.02, 3e-4)
    in_pieces = auricle.load("tera_mini")
    LongAudioHint(Selection.of(in_pieces), in_pieces, is_here=True)(long(3600))
    windows = Windows(window_seconds=30, overlap_seconds=5)
    windowed = Selection.of(attending, windows=windows)
    LongAudioHint(windowed, attending, is_here=True)(long(3600))
    LongAudioHint(Selection.of(encoder), encoder, is_here=True)(long(3600))
    assert not caplog.records


def test_a_dry_run_says_what_a_run_then_does(
    corpus: list[Utterance],
    make_worker: Callable[..., Worker],
    tmp_path: Path,
    heard: Any,
    encoder: Encoder,
) -> None:
    out = tmp_path / "out"
    limits = PlanLimits(batch_seconds=3)
    Path(corpus[11].source).write_bytes(b"no audio at all")

    def run(utterances: list[Utterance]) -> Any:
        worker = make_worker(out)
        engine = LocalEngine(("cpu",))
        return extract(
            utterances, worker, engine, num_bytes=lambda _: 0, progress=heard, limits=limits
        )

    run(corpus[:4])
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    worker = make_worker(out)
    said = survey(
        Listing(utterances=corpus),
        worker.writer,
        worker.selection,
        encoder,
        num_devices=1,
        progress=heard,
        limits=limits,
    )
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    done = run(corpus)
    assert (said.num_encoded, said.num_before, said.num_failed) == (7, 4, 1)
    assert (said.num_encoded, said.num_before) == (done.num_encoded, done.num_before)
    assert said.seconds == pytest.approx(done.seconds)
    store = open_store(out)
    arrays = [store[utterance.id] for utterance in corpus[4:11]]
    assert said.num_frames == sum(len(x) for x in arrays)
    assert said.num_bytes == sum(x.nbytes for x in arrays)
    assert said.expected_seconds is not None
    assert said.expected_seconds > 0


def test_spans_in_words() -> None:
    spans = [span(seconds) for seconds in (5, 89, 90, 3600, 5400, 36000, 3.6e6)]
    assert spans == ["5 s", "89 s", "2 min", "60 min", "1.5 h", "10 h", "1,000 h"]
