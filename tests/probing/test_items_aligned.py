from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.corpus.listing import list_utterances
from auricle.corpus.utterance import Utterance
from auricle.errors import AuricleError
from auricle.probing.items import read_aligned

GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
1
<exists>
2
"IntervalTier"
"words"
0
1
1
0
1
"so"
"IntervalTier"
"phones"
0
1
2
0
0.4
"s"
0.4
1
"oh"
"""


@pytest.fixture
def listed(tmp_path: Path) -> list[Utterance]:
    """Two silent recordings of one second, `a/x` and `b/y`."""
    for name in ("a/x", "b/y"):
        path = tmp_path / "audio" / f"{name}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.zeros(16_000), 16_000)
    return list_utterances([str(tmp_path / "audio")]).utterances


def read(
    labels: Path, listed: list[Utterance], tier: str | None = None, shift_seconds: float = 0.01
) -> tuple[dict[str, str], list[str]]:
    found, unknown = read_aligned(labels, listed, tier=tier, shift_seconds=shift_seconds)
    return {one.id: " ".join(part.label for part in one.segments) for one in found}, unknown


def test_a_folder_has_a_file_for_each_recording(tmp_path: Path, listed: list[Utterance]) -> None:
    labels = tmp_path / "aligned"
    (labels / "b").mkdir(parents=True)
    (labels / "x.TextGrid").write_text(GRID)
    (labels / "b/y.ctm").write_text("y 1 0 0.5 A\ny 1 0.5 0.5 B\n")
    (labels / "z.ctm").write_text("z 1 0 0.5 A\n")
    (labels / "notes.txt").write_text("none")
    assert read(labels, listed) == ({"a/x": "s oh", "b/y": "A B"}, ["z"])
    assert read(labels / "x.TextGrid", listed, tier="words")[0] == {"a/x": "so"}
    (labels / "a").mkdir()
    (labels / "a/x.ctm").write_text("x 1 0 0.5 A\n")
    with pytest.raises(AuricleError, match="labels a/x twice, as 'a/x' and 'x'"):
        read(labels, listed)


def test_one_file_has_the_labels_of_many(tmp_path: Path, listed: list[Utterance]) -> None:
    ctm = tmp_path / "all.ctm"
    ctm.write_text("b/y 1 0.5 0.5 B\nx 1 0 0.5 A\nb/y 1 0 0.5 A\nb/y 1 1 0 C\n")
    assert read(ctm, listed) == ({"a/x": "A", "b/y": "A B"}, [])
    with pytest.raises(AuricleError, match="no tiers"):
        read(ctm, listed, tier="phones")
    ctm.write_text("stranger 1 0 0.5 A\n")
    with pytest.raises(AuricleError, match="none of the 2 utterances, but 1 others such as 'str"):
        read(ctm, listed)
    ctm.write_text("x 1 0 0.5 A\nx 1 0.3 0.5 A\n")
    with pytest.raises(AuricleError, match="overlap at 0.3 s"):
        read(ctm, listed)


def test_kaldi_s_frames_have_to_fill_the_recording(tmp_path: Path, listed: list[Utterance]) -> None:
    path = tmp_path / "phones.ali"
    path.write_text("x " + "1 " * 20 + "7 " * 13 + "\n")
    with pytest.raises(AuricleError, match="a/x lasts 1 s, but its 33 labels last 0.33 s.*0.03"):
        read(path, listed)
    assert read(path, listed, shift_seconds=0.03)[0] == {"a/x": "1 7"}


def test_labels_far_beyond_the_end_and_folders_without_any_are_refused(
    tmp_path: Path, listed: list[Utterance]
) -> None:
    ctm = tmp_path / "all.ctm"
    ctm.write_text("x 1 0 500 A\n")
    with pytest.raises(AuricleError, match="a/x: the labels reach 500 s"):
        read(ctm, listed)
    with pytest.raises(AuricleError, match="holds no .TextGrid and no .ctm"):
        read(tmp_path / "audio", listed)


def test_times_count_from_the_start_of_a_part(tmp_path: Path, listed: list[Utterance]) -> None:
    part = dataclasses.replace(listed[0], id="part", start=0.5, seconds=0.5)
    path = tmp_path / "part.ali"
    path.write_text("part " + "1 " * 50)
    assert read(path, [part])[0] == {"part": "1"}
