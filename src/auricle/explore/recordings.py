"""What can be told of a recording as soon as it is there."""

from __future__ import annotations

from pathlib import Path

MAX_SECONDS = 60.0
"""A longer recording is not drawn whole: its details would not be seen."""


def examine(path: Path) -> str:
    """What a visitor has to do before this recording can be drawn, empty where there is nothing.

    Raises:
        AudioError: It is no audio, or damaged.
    """
    from auricle.audio.files import read_header  # imports torch, which the page does not wait for

    return describe_excess(read_header(path).seconds or 0.0)


def describe_excess(seconds: float) -> str:
    """Why so much audio is not drawn and what to do, empty where it is."""
    if seconds <= MAX_SECONDS:
        return ""
    return (
        f"This is {_minutes(seconds)} of audio, and one picture holds at most {MAX_SECONDS:g} s: "
        "choose a part of it by its start and end. (auricle plot and auricle extract take "
        "recordings of any length.)"
    )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
