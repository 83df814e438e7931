from __future__ import annotations

import logging

import pytest

from auricle.audio import notes
from auricle.audio.notes import Tally, gathered, gathering, note


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
