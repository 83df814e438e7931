from __future__ import annotations

import pytest

from auricle.corpus.utterance import Utterance, UtteranceNames
from auricle.errors import AudioError

NAMES = UtteranceNames(
    [
        Utterance(id="a/x", source="/data/a/x.flac"),
        Utterance(id="b/x", source="/data/b/x.flac"),
        Utterance(id="y.1", source="/data/y.1.wav"),
        Utterance(id="z", source="/data/c.tar", container="tar", member="deep/z.wav"),
    ]
)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("a/x", 0),
        ("b/x.wav", 1),  # converted since
        ("/data/b/x.flac", 1),
        ("y.1", 2),
        ("y.1.wav", 2),
        ("deep/z.wav", 3),
        ("z", 3),
        ("y", None),
        ("c/x", None),
        ("other/z", None),
        ("1", None),
    ],
)
def test_a_name_is_an_id_or_the_last_parts_of_a_path(name: str, index: int | None) -> None:
    assert NAMES.find(name) == index


def test_a_name_of_several_is_refused() -> None:
    with pytest.raises(AudioError, match="'x.wav' means 2 utterances, such as 'a/x' and 'b/x'"):
        NAMES.find("x.wav")


def test_dots_count_from_the_folder_and_longer_names_are_taken_when_asked_for() -> None:
    assert NAMES.find("../a/x.flac", "/data/tables") == 0
    assert NAMES.find("../a/x.flac", "/elsewhere") is None
    assert NAMES.find("labels/y.1", is_longer=True) == 2
    assert NAMES.find_first(("", "none", "z"), "") == 3
