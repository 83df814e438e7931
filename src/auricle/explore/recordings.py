"""Duration limit of the page, checked as soon as a recording is uploaded."""

from __future__ import annotations

from pathlib import Path

MAX_SECONDS = 60.0
"""Longest section that is drawn; details of longer ones would be too small to see."""


def examine(path: Path) -> str:
    """Return a message if a recording is too long to be drawn whole, else an empty string.

    Raises:
        AudioError: The file is not audio, or is damaged.
    """
    from auricle.audio.files import read_header  # imports torch, which the page does not wait for

    return describe_excess(read_header(path).seconds or 0.0)


def describe_excess(seconds: float) -> str:
    """Return a message if a duration exceeds `MAX_SECONDS`, else an empty string."""
    if seconds <= MAX_SECONDS:
        return ""
    return (
        f"This is {_minutes(seconds)} of audio, and one picture holds at most {MAX_SECONDS:g} s: "
        "choose a section of it by its start and end. (auricle plot and auricle extract take "
        "recordings of any length.)"
    )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
