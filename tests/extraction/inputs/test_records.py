from __future__ import annotations

from auricle.extraction.inputs.records import Listing, Problem, unreadable
from auricle.extraction.utterances import Utterance


def test_a_problem_as_text_says_where_it_is() -> None:
    assert (
        str(Problem(kind="missing", manifest="l.csv", line=3, reason="gone"))
        == "l.csv, line 3: gone"
    )
    assert str(Problem(kind="missing", manifest="a.wav", reason="gone")) == "a.wav: gone"


def test_listings_are_appended() -> None:
    listing = Listing(utterances=[Utterance(id="a", source="a.wav")])
    problem = Problem(kind="escape", manifest="l.csv", reason="out")
    other = Listing(
        utterances=[Utterance(id="b", source="b.wav")], problems=[problem], known_seconds={"b": 2.0}
    )
    listing.extend(other)
    assert [utterance.id for utterance in listing.utterances] == ["a", "b"]
    assert listing.problems == [problem]
    assert listing.known_seconds == {"b": 2.0}


def test_the_systems_own_words_come_first() -> None:
    error = FileNotFoundError(2, "No such file or directory")
    assert str(unreadable("l.csv", error)).startswith(
        "cannot read l.csv: No such file or directory;"
    )
