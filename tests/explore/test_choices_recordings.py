from __future__ import annotations

from pathlib import Path

import pytest

from auricle.audio.inputs import sample_paths
from auricle.errors import AudioError
from auricle.explore import choices
from auricle.explore.choices import describe_excess, examine

SPEECH = sample_paths()[0]


def test_what_is_short_enough_needs_nothing() -> None:
    assert examine(SPEECH) == ""
    assert describe_excess(60.0) == ""


def test_what_is_too_long_says_how_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_excess(61.4).startswith("This is 1 min 1 s of audio, and one picture holds at")
    assert "This is 1 h 2 min of audio" in describe_excess(3725)
    monkeypatch.setattr(choices, "MAX_SECONDS", 1.0)
    assert "at most 1 s: choose a section of it by its start and end" in examine(SPEECH)


def test_what_is_no_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"this is no sound" * 10)
    with pytest.raises(AudioError, match="cannot read .*a.wav as audio"):
        examine(tmp_path / "a.wav")
