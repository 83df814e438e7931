from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auricle.audio import notes
from auricle.audio.files import read_audio
from auricle.audio.inputs import as_waveforms
from auricle.audio.notes import Tally, gathered, gathering, non_finite_reason, note


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_num_said", notes.Counter())


def test_a_note_is_a_warning_until_many_have_been_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "MAX_SAID", 2)
    caplog.set_level(logging.INFO)
    for number in range(4):
        note("kind", f"file {number}")
    note("other", "file 4")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2 + ["INFO"] * 2 + [
        "WARNING"
    ]


def test_gathered_notes_are_one_line_for_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    with gathered() as outer:
        for number in range(3):
            with gathered() as inner:
                note("a", f"a{number} is odd")
            inner.say()
        note("b", "b is odd")
    assert not caplog.records
    outer.say()
    assert caplog.messages == ["a0 is odd (the first of 3 such files)", "b is odd"]


def test_what_works_on_many_files_says_it_at_the_end_even_if_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @gathering
    def work(number: int) -> None:
        note("a", "a is odd")
        note("a", "b is odd")
        raise ValueError(number)

    with pytest.raises(ValueError, match="7"):
        work(7)
    assert caplog.messages == ["a is odd (the first of 2 such files)"]


def test_tallies_add_up() -> None:
    one, two = Tally(), Tally()
    for tally, text in ((one, "first"), (two, "second")):
        tally.firsts["a"] = text
        tally.counts["a"] = 2
    one.add(two)
    assert one == Tally(firsts={"a": "first"}, counts=notes.Counter(a=4))


RATE = 16_000


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, RATE)


@pytest.mark.parametrize(
    ("channels", "is_odd"),
    [
        ([1.0, -1.0], True),
        ([1.0, -0.9], True),
        ([1.0, -0.4], False),
        ([1.0, 0.0], False),
        ([1.0, 1.0, -1.0, -1.0], True),
    ],
)
def test_channels_that_cancel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, channels: list[float], is_odd: bool
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise()[:, None] * channels, RATE)
    read_audio(path)
    expected = f"{path}: its {len(channels)} channels cancel each other"
    assert [message[: len(expected)] for message in caplog.messages] == [expected] * is_odd
    caplog.clear()
    read_audio(path, channel=0)
    assert not caplog.messages


def test_unrelated_channels_do_not_cancel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    array = np.stack([noise(seed) for seed in range(40)], 1)
    soundfile.write(tmp_path / "a.wav", array, RATE)
    read_audio(tmp_path / "a.wav")
    assert not caplog.messages


def test_float_samples_in_the_range_of_integers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loud = (noise() * 32768).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", loud, RATE, subtype="FLOAT")
    read = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(read, loud)
    assert f"a.wav: float samples reach {np.abs(loud).max():g}" in caplog.messages[0]
    soundfile.write(tmp_path / "over.wav", noise() * 20, RATE, subtype="FLOAT")
    caplog.clear()
    as_waveforms([loud, torch.randn(RATE), (2 * loud, RATE)], sample_rate=RATE, min_samples=1)
    assert caplog.messages == [
        f"waveform 0: float samples reach {np.abs(loud).max():g}, but full scale is 1: divide them "
        "by 32768 if they are 16-bit integers (the first of 2 such files)"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_silent_file_is_said_but_a_silent_part_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    read_audio(tmp_path / "a.wav", start_seconds=0.5)
    assert not caplog.messages
    read_audio(tmp_path / "a.wav")
    assert caplog.messages == [f"{tmp_path / 'a.wav'} is silent: all of its samples are 0"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_counts_and_finds_the_first(value: float) -> None:
    samples = torch.zeros(100)
    samples[[99, 7, 8]] = value
    reason = non_finite_reason(samples)
    assert reason is not None
    assert reason.startswith("3 of 100 samples are NaN or infinite")
    assert "first at sample 7:" in reason


def test_infinities_that_cancel_are_found() -> None:
    reason = non_finite_reason(torch.tensor([0.0, float("inf"), float("-inf")]))
    assert reason is not None
    assert reason.startswith("2 of 3")


def test_finite_samples_pass_even_where_their_sum_overflows() -> None:
    assert non_finite_reason(torch.zeros(3)) is None
    assert non_finite_reason(torch.full((10,), 3e38)) is None
    assert non_finite_reason(torch.zeros(5, requires_grad=True)) is None
